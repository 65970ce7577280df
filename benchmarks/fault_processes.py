"""Runs of the fault campaign as processes, one of which is killed at a random moment."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from fault_runs import ARMS, arm_outside
from wpg_process import WPG, emulated

from wpg.export.testing import untrained_artifact
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.run_log.reader import read_log
from wpg.sim_envs.tasks.reach import reach_interface

PROCESS_KINDS = ("bridge killed", "emulator killed", "logger killed")
DURATION_S = 3.0
HANG_S = 30.0
"""A process that has not ended by then counts as hanging."""
RELOAD_S = 0.3


class ProcessRuns:
    """Makes an untrained policy for every arm, and runs it with ``wpg run``."""

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory()
        self._folder = Path(self._temporary.name)
        self._policies: dict[str, Path] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def run(self, protocol: str, kind: str, seed: int) -> dict[str, Any]:
        """One run, as the emulator, the bridge and the log report it."""
        folder = self._folder / str(seed)
        folder.mkdir()
        random = np.random.default_rng(seed)
        options = ["--link", "pty:", "--engine", "kinematic", "--json", folder / "witness.json"]
        with emulated(ARMS[protocol], *options) as arm:
            first = self._bridge(protocol, arm.link, folder / "first", duration_s=DURATION_S)
            wait_for(folder / "first.mcap")
            # Anywhere from before arming to after the end.
            time.sleep(float(random.uniform(0.2, DURATION_S + 0.5)))
            victim = {"bridge killed": first, "emulator killed": arm.process}.get(kind)
            os.kill(logger_of(first) if victim is None else victim.pid, signal.SIGKILL)
            hang = not ends(first)
            found: dict[str, Any] = {"hang": hang, "log_whole": whole_log(folder / "first.mcap", kind)}
            if kind == "bridge killed":
                time.sleep(RELOAD_S)
                again = self._bridge(protocol, arm.link, folder / "again", duration_s=1.0)
                found["hang"] |= not ends(again)
                found["recovered"] = again.returncode == 0
        return found | {"protocol": protocol, "kind": kind, "seed": seed} | reported(folder)

    def _bridge(
        self, protocol: str, link: str, name: Path, *, duration_s: float
    ) -> "subprocess.Popen[bytes]":
        command = [*WPG, "run", str(self._policy(protocol)), "--robot", ARMS[protocol], "--link", link]
        files = ["--log", str(name.with_suffix(".mcap")), "--json", str(name.with_suffix(".json"))]
        return subprocess.Popen(
            [*command, *files, "--duration", str(duration_s)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _policy(self, protocol: str) -> Path:
        if protocol not in self._policies:
            interface = reach_interface(load_description(ARMS[protocol]))
            path = self._folder / f"{protocol}.onnx"
            untrained_artifact(path, interface, num_particles=8, hidden=16)
            self._policies[protocol] = path
        return self._policies[protocol]


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    deadline_s = time.monotonic() + HANG_S
    while not path.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)


def logger_of(bridge: "subprocess.Popen[bytes]") -> int:
    """The process that writes a bridge's log."""
    children = Path(f"/proc/{bridge.pid}/task/{bridge.pid}/children").read_text().split()
    for child in map(int, children):
        if b"run_log.writer" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return os.getpid() if bridge.poll() is None else 0


def ends(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a process ends by itself in time; if not, it is killed."""
    try:
        process.wait(HANG_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def whole_log(path: Path, kind: str) -> bool:
    """The log is whole whoever was killed; if that was the logger, it can be read up to there."""
    deadline_s = time.monotonic() + HANG_S
    while time.monotonic() < deadline_s:
        try:
            if read_log(path).complete or kind == "logger killed":
                return True
        except OSError:
            if kind == "logger killed":
                # Killed before its first chunk: there is nothing in the file yet.
                return True
        time.sleep(0.05)
    return False


def reported(folder: Path) -> dict[str, Any]:
    """Counts of the bridge, and of the emulator if it was not killed."""
    found: dict[str, Any] = {
        "commands_ok": 0,
        "commands_outside_limits": 0,
        "arm_outside": [],
        "sudden_by_arrival": 0,
        "limit_violations": 0,
        "hold_ms_max": 0.0,
        "coasting_ms_max": 0.0,
        "moving_at_end": False,
        "holds": 0,
        "recoveries": 0,
        "jump_share_max": 0.0,
        "end_reason": "",
    }
    witness, report = folder / "witness.json", folder / "first.json"
    if witness.exists():
        saw = json.loads(witness.read_text())
        description = load_description(saw["robot"])
        reach = float((description.limits("velocity_max_rad_s") * description.servo_dt_s).min())
        outside = saw["commands_outside_limits_by"]
        sudden = 0 if description.bus is None else outside.pop("acceleration", 0)
        found |= {
            "commands_ok": saw["commands_ok"],
            "commands_outside_limits": sum(outside.values()),
            "outside": outside,
            "arm_outside": arm_outside(description, saw, by_hand=False),
            "sudden_by_arrival": sudden,
            "hold_ms_max": saw["hold_delay_ms_max"],
            "coasting_ms_max": saw["coasting_ms_max"],
            "holds": saw["holds"],
            "jump_share_max": round(saw["first_step_rad_max"] / reach, 4),
            "late_ms_max": saw["late_ms_max"],
        }
    if report.exists():
        ran = json.loads(report.read_text())
        found |= {"limit_violations": ran["limit_violations"], "end_reason": ran["end_reason"]}
        found["log_error"] = ran["log_error"]
    return found
