"""Measures the control loop at 1 kHz: lateness and missed deadlines, with and without real-time rights.

    python benchmarks/loop_rate.py [--seconds 600] [--out benchmarks/results/loop_rate.jsonl]

A Panda described with a servo rate of 1 kHz stands behind UDP in another process (``KinematicRobot``); the
policy, K = 32 particles of an untrained network of the usual size, acts at 100 Hz; a third process keeps the
other core busy. Each row lasts ``--seconds``. All missed deadlines are skipped and counted, where the
loop would normally hold the arm after some of them. The last row is a bare loop of ``time.sleep`` at the same
period, as a baseline for the others.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import tyro
from rows import machine, write

from wpg.export import Artifact
from wpg.export.testing import untrained_artifact
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.emulation.emulator import Emulator
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.session import run_policy
from wpg.sim_envs.tasks.reach import reach_interface

SERVO_RATE_HZ = 1000.0
POLICY_DT_S = 0.01
PARTICLES = 32
HIDDEN = 128
LOOP_CPU, OTHER_CPU = 1, 0
GO_ON = SafetyConfig(stale_s=60.0, overrun_s=60.0, tracking_error_max_rad=10.0, holds_max=1_000_000)
"""Lateness is measured here, so it ends no run. If the arm's own watchdog holds it, it is armed again."""


def panda_at_1_khz() -> RobotDescription:
    """The Panda, told setpoints every millisecond."""
    return msgspec.structs.replace(load_description("panda"), servo_rate_hz=SERVO_RATE_HZ, simulation=None)


def policy_for(folder: Path, description: RobotDescription) -> Artifact:
    """A policy of the size that training gives."""
    interface = msgspec.structs.replace(reach_interface(description), control_dt_s=POLICY_DT_S)
    return untrained_artifact(folder / "policy.onnx", interface, num_particles=PARTICLES, hidden=HIDDEN)


def serve(pipe: Connection) -> None:
    """The arm, in a process of its own on the other core."""
    emulator = Emulator(KinematicRobot(panda_at_1_khz()), "udp://127.0.0.1:0")
    pipe.send(emulator.url)
    with realtime(RealtimeConfig(priority=70, cpu=OTHER_CPU)):
        emulator.serve(pipe.poll)
    emulator.close()


def be_busy(pipe: Connection) -> None:
    """Keep the other core busy, without rights of any kind."""
    with realtime(RealtimeConfig(priority=None, cpu=OTHER_CPU)):
        while not pipe.poll():
            sum(range(100_000))


@contextmanager
def process(target: Any, *, announces: bool) -> Iterator[Any]:
    """Another process, told to end at the end; what it announces."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(target=target, args=(theirs,))
    started.start()
    try:
        yield ours.recv() if announces else None
    finally:
        ours.send("stop")
        started.join()


def loop(artifact: Artifact, url: str, seconds: float, *, rights: bool) -> dict[str, Any]:
    """One run of the real loop."""
    report = run_policy(
        artifact,
        NativeRobot(panda_at_1_khz(), url),
        LoopConfig(duration_s=seconds, safety=GO_ON),
        realtime_config=RealtimeConfig(priority=80 if rights else None, cpu=LOOP_CPU),
    )
    return {
        "loop": "wpg, real-time rights" if rights else "wpg, no rights",
        "rate_hz": report.rate_hz,
        "ticks": report.ticks,
        "missed_deadlines": report.missed_deadlines,
        "lateness_us": msgspec.to_builtins(report.lateness_us),
        "policy_us": msgspec.to_builtins(report.policy_us),
        "sense_to_act_us": msgspec.to_builtins(report.sense_to_act_us),
        "safety_events": report.safety_events,
        "limit_violations": report.limit_violations,
        "end_reason": report.end_reason,
        "warnings": report.warnings,
    }


def plain_sleep(seconds: float) -> dict[str, Any]:
    """A loop of relative sleeps that does nothing else."""
    period_s, late = 1 / SERVO_RATE_HZ, LatencyHistogram()
    began_s = last_s = time.monotonic()
    missed = ticks = 0
    with realtime(RealtimeConfig(priority=None, cpu=LOOP_CPU)):
        while last_s - began_s < seconds:
            time.sleep(period_s)
            now_s = time.monotonic()
            late.record(now_s - last_s - period_s)
            missed += int((now_s - last_s) / period_s) - 1
            last_s = now_s
            ticks += 1
    return {
        "loop": "time.sleep",
        "rate_hz": round(ticks / (last_s - began_s), 3),
        "ticks": ticks,
        "missed_deadlines": missed,
        "lateness_us": msgspec.to_builtins(late.summary()),
    }


def main(
    *,
    seconds: float = 600.0,
    out: Path | None = None,
) -> None:
    """Measure and print a table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, process(be_busy, announces=False):
        artifact = policy_for(Path(folder), panda_at_1_khz())
        for rights in (True, False):
            with process(serve, announces=True) as url:
                rows.append(loop(artifact, url, seconds, rights=rights))
        rows.append(plain_sleep(seconds))
    if out is not None:
        write(out, (row | {"seconds": seconds} | machine() for row in rows))
    print("| loop | rate Hz | late p50 µs | p99 | p99.9 | max | missed |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        late = row["lateness_us"]
        print(
            f"| {row['loop']} | {row['rate_hz']:.1f} | {late['p50']:.0f} | {late['p99']:.0f} "
            f"| {late['p999']:.0f} | {late['max']:.0f} | {row['missed_deadlines']} of {row['ticks']:,} |"
        )
    for row in rows[:2]:
        print(json.dumps({key: row[key] for key in row if key not in ("lateness_us", "ticks")}))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
