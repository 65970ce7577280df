"""Drives franky-sim's Research 3 by a trained policy over the Franka control interface, at 1 kHz.

Makes an environment with wpg[franka] and franky-sim (about 0.7 GB, once), serves the robot there with a
strict layer (fci_server.py), and runs the policy on it as ``wpg run`` does. It then makes things go wrong:
the gateway is stopped for 40 ms, and the user stop is pressed in motion.

    python benchmarks/franka_fci.py runs/reach/policy.onnx [--seconds 60] [--environment DIR] [--json FILE]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from wpg_process import run_command

from wpg.export.artifact import Artifact
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.report import RunReport
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.franka.robot import FrankaRobot
from wpg.hardware_bridge.realtime import RealtimeConfig
from wpg.hardware_bridge.session import run_policy

ROOT = Path(__file__).parent.parent
SERVER = Path(__file__).with_name("fci_server.py")
URL = "fci://127.0.0.1"
GATEWAY_PAUSE_S = 0.04
FAULT_AFTER_S = 3.0
FAULT_SECONDS = 8.0


def make_environment(folder: Path) -> str:
    """The Python of an environment that has the robot and the gateway."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"{ROOT}[franka]", "franky-sim"], check=True
        )
    return str(python)


class Disturbed(FrankaRobot):
    """A disturbance some time after the robot was first armed."""

    disturbance: threading.Timer | None = None

    def arm(self) -> None:
        """No disturbance."""
        super().arm()
        if self.disturbance is not None and self.disturbance.ident is None:
            self.disturbance.start()


class Served:
    """The robot's process, and its report once it has ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: dict[str, Any] = {}


@contextmanager
def serving(python: str, cpu: int | None) -> Iterator[Served]:
    """A robot for as long as the context lasts."""
    pinned = [] if cpu is None else ["--cpu", str(cpu)]
    served = Served(subprocess.Popen([python, SERVER, *pinned], stdout=subprocess.PIPE, text=True))
    output = served.process.stdout
    assert output is not None
    try:
        while output.readline().strip() != "ready":
            if served.process.poll() is not None:
                raise SystemExit("the simulated robot does not start")
        yield served
    finally:
        served.process.terminate()
        served.seen = json.loads(served.process.communicate()[0].splitlines()[-1])


def drive(
    artifact: Artifact,
    python: str,
    options: argparse.Namespace,
    seconds: float,
    fault: Callable[[FrankaRobot, Served], None] | None = None,
) -> dict[str, Any]:
    """One run on a new robot, as bridge, gateway and robot report it."""
    gateway = (python, "-m", "wpg.hardware_bridge.franka.gateway")
    robot = Disturbed(load_description("panda"), URL + options.options, gateway=gateway)
    with serving(python, options.robot_cpu) as served:
        if fault is not None:
            robot.disturbance = threading.Timer(FAULT_AFTER_S, fault, (robot, served))
        report = run_policy(
            artifact,
            robot,
            LoopConfig(duration_s=seconds, seed=options.seed),
            noise_seed=options.seed,
            realtime_config=RealtimeConfig(cpu=options.cpu),
        )
        if robot.disturbance is not None:
            robot.disturbance.join()
    return {"bridge": report, "gateway": robot.report, "robot": served.seen}


def pause_gateway(robot: FrankaRobot, served: Served) -> None:
    """Stop the gateway for longer than the robot waits."""
    process = robot.gateway_pid
    os.kill(process, signal.SIGSTOP)
    threading.Event().wait(GATEWAY_PAUSE_S)
    os.kill(process, signal.SIGCONT)


def press_user_stop(robot: FrankaRobot, served: Served) -> None:
    """Press the user stop, and leave it pressed."""
    served.process.send_signal(signal.SIGUSR1)


def simulated(policy: Path, episodes: int) -> dict[str, Any]:
    """Result of ``wpg evaluate`` for the policy in MuJoCo."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evaluation.json"
        run_command("evaluate", policy, "--episodes", str(episodes), "--json", path, quiet=True)
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def show(name: str, found: dict[str, Any]) -> None:
    """One run as text."""
    report: RunReport = found["bridge"]
    robot, gateway = found["robot"], found["gateway"]
    moving = max(robot["moving"], 1)
    print(f"\n{name}: ended by {report.end_reason}{report.message and ' (' + report.message + ')'}")
    print(f"  goals reached     {report.successes} of {report.goals}")
    print(f"  robot             {robot['cycles']} ms, {moving} of them moving, {robot['late']} begun late")
    print(f"  in time           {1 - robot['missed'] / moving:.4%}, reflexes {robot['reflexes'] or 'none'}")
    if gateway is not None:
        print(f"  worst 100 ms      {gateway.success_rate_min:.2f}")
        print(f"  late              answers {gateway.late_answers}, setpoints {gateway.late_setpoints}")
    for what, worst in robot["worst"].items():
        print(f"  {what:17} {worst:.4g}")
    print(f"  bridge            {report.rate_hz:.1f} Hz, missed {report.missed_deadlines} of {report.ticks}")
    print(
        f"  events            {report.safety_events or 'none'}, limits left {report.limit_violations} times"
    )


def main() -> None:
    """Drive, disturb, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=100, help="in simulation")
    parser.add_argument("--options", default="", help="of the link, e.g. '?mode=position&cpu=1'")
    parser.add_argument("--cpu", type=int, help="core of the control loop")
    parser.add_argument("--robot-cpu", type=int, help="core of the simulated robot")
    parser.add_argument("--environment", type=Path, default=Path("runs/franka"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    python = make_environment(options.environment)
    artifact = load_artifact(options.policy)
    results = {
        "undisturbed": drive(artifact, python, options, options.seconds),
        "gateway paused": drive(artifact, python, options, FAULT_SECONDS, pause_gateway),
        "user stop pressed": drive(artifact, python, options, FAULT_SECONDS, press_user_stop),
    }
    for name, found in results.items():
        show(name, found)
    if options.episodes:
        evaluation = simulated(options.policy, options.episodes)
        low, high = evaluation["success_ci95"]
        print(f"\nin MuJoCo: success {evaluation['success_rate']:.2f}, 95 % interval {low:.2f} to {high:.2f}")
        results["simulation"] = evaluation
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


if __name__ == "__main__":
    main()
