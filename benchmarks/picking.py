"""Picks over emulated links by the script of the demonstrations, so that no policy adds errors.

    python benchmarks/picking.py --goals 20 --out benchmarks/results/picking.jsonl

The arm and its table run in one process, the loop in another, and an emulated camera observes the cube. The
Panda speaks native frames over UDP, the OpenMANIPULATOR-X Dynamixel packets over a pseudo-terminal.
sources.py does the same with policies.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import gymnasium
import tyro
from rows import append
from wpg_process import emulated

from wpg.controllers.statistics import wilson_interval
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.report import RunReport
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.session import open_robot
from wpg.hardware_bridge.sources.link import LinkSource
from wpg.sim_envs.tasks.scripts import Picker, ScriptedPolicy

LINKS = {"panda": "udp://127.0.0.1:0", "omx": "pty:"}
CAMERA = "rate_hz=60,delay_ms=20,noise_mm=0.5,noise_deg=0.5"


def main(
    *,
    robots: tuple[Literal[*list(LINKS)], ...] = tuple(LINKS),
    goals: int = 20,
    seed: int = 0,
    out: Path,
) -> None:
    """Run every arm, and append one line of JSON for each."""
    for robot in robots:
        row = {"benchmark": "picking", "time": time.strftime("%Y-%m-%d"), "robot": robot}
        row |= {"by": "script", "camera": CAMERA, **picked(robot, goals, seed)}
        print(json.dumps(row), flush=True)
        append(out, row)


def picked(robot: str, goals: int, seed: int) -> dict[str, Any]:
    """A run, as loop and emulator report it."""
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen.json"
        scene = ["--task", "PandaPickAndPlace", "--camera", CAMERA, "--seed", str(seed)]
        with emulated(robot, "--link", LINKS[robot], *scene, "--json", seen) as arm:
            report = play(robot, arm.hello, goals, seed)
        witness = json.loads(seen.read_text())
    errors = sorted(goal.error_m for goal in report.goal_results)
    return {
        "goals": report.goals,
        "successes": report.successes,
        "success_ci95": [round(end, 4) for end in wilson_interval(report.successes, report.goals)],
        "error_mm_p50": round(1e3 * errors[len(errors) // 2], 1),
        "end_reason": report.end_reason,
        "homings": report.homings,
        "put_backs": report.put_backs,
        "safety_events": report.safety_events,
        "missed_deadlines": report.missed_deadlines,
        "ticks": report.ticks,
        "limit_violations": report.limit_violations + witness["commands_outside_limits"],
        "emulator_late_ms_max": witness["late_ms_max"],
    }


def play(robot: str, hello: dict[str, Any], goals: int, seed: int) -> RunReport:
    """The control loop against an emulator that has said where it is."""
    env: Any = gymnasium.make("wpg/PandaPickAndPlace-v0", robot=robot).unwrapped
    loop = ControlLoop(
        open_robot(load_description(robot), hello["link"]),
        ScriptedPolicy(env, Picker),
        LoopConfig(goals=goals, seed=seed),
        sources=[LinkSource(hello["source"], hello["terms"])],
        put_back=lambda trouble: True,
    )
    with realtime(RealtimeConfig()):
        return loop.run()


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
