"""Runs policies over emulated servo buses and compares their success with that in simulation.

    python benchmarks/servo_policies.py [--goals 50] [--episodes 200] [--folder runs/servo_policies]
                                        [--out benchmarks/results/servo_policies.jsonl] [--prepare]

Trains a reach policy for each arm and measures the exported file in the environment. It does both only if
FOLDER does not hold them. ``--prepare`` ends there, so that the rest can have a machine to itself. It then
runs the file with ``wpg run`` over a pseudo-terminal against ``wpg emulate``, which has MuJoCo behind the
servos' registers. Intervals are Wilson's, 95 %. Goals on a bus carry no number. If the emulator's host keeps
it waiting, goals pile up and look more sudden than they were sent. Its own lateness is therefore shown beside
what it found outside limits.
"""

import json
from pathlib import Path
from typing import Any, Literal

import gymnasium
import tyro
from rows import machine, write
from wpg_process import emulated, run_command

from wpg.cli.commands.evaluate import evaluate_policy
from wpg.controllers import TrainConfig, train
from wpg.controllers.statistics import wilson_interval
from wpg.export import export_run
from wpg.sim_envs.registration import TASKS

ARMS = {"so101": "SO101Reach-v0", "omx": "OpenManipulatorReach-v0"}
SEED = 0


def register(target_history: int | None) -> None:
    """Give each arm's reach task an id."""
    for robot, env_id in ARMS.items():
        gymnasium.register(
            id=env_id,
            entry_point="wpg.sim_envs.tasks.reach:ReachEnv",
            max_episode_steps=TASKS["PandaReach"].horizon,
            kwargs={"robot": robot, "target_history": target_history},
        )


def trained(robot: str, folder: Path, steps: int) -> Path:
    """The arm's exported policy, trained if there is none yet."""
    artifact = folder / robot / "policy.onnx"
    if not artifact.exists():
        result = train(TrainConfig(env=ARMS[robot], seed=SEED, steps=steps), out=folder / robot)
        print(f"{robot}: {result.steps:,} steps in {result.train_seconds:.0f} s", flush=True)
        export_run(result.folder, artifact)
    return artifact


def simulated(artifact: Path, robot: str, episodes: int) -> dict[str, Any]:
    """The policy's success in the environment, measured if it has not been."""
    file = artifact.with_name("simulation.json")
    if not file.exists():
        found = evaluate_policy(artifact, env=ARMS[robot], episodes=episodes, select="best")
        success = {"success_simulation": found.success_rate, "success_simulation_ci95": found.success_ci95}
        file.write_text(json.dumps({"episodes": found.episodes, **success}))
    measured: dict[str, Any] = json.loads(file.read_text())
    return measured


def run(artifact: Path, robot: str, goals: int, folder: Path) -> dict[str, Any]:
    """Run the policy over the bus; figures of bridge and emulator."""
    report, witness, log = (folder / robot / name for name in ("run.json", "witness.json", "run.mcap"))
    log.unlink(missing_ok=True)
    with emulated(robot, "--link", "pty:", "--json", witness) as arm:
        options = ["--goals", str(goals), "--json", report, "--log", log]
        run_command("run", artifact, "--robot", robot, "--link", arm.link, *options)
    ran, saw = json.loads(report.read_text()), json.loads(witness.read_text())
    return {
        "goals": ran["goals"],
        "successes": ran["successes"],
        "success_bus_ci95": wilson_interval(ran["successes"], ran["goals"]),
        "rate_hz": ran["rate_hz"],
        "ticks": ran["ticks"],
        "missed_deadlines": ran["missed_deadlines"],
        "safety_events": ran["safety_events"],
        "limit_violations": ran["limit_violations"],
        "commands_outside_limits_by": saw["commands_outside_limits_by"],
        "emulator_late_ms_max": saw["late_ms_max"],
    }


def main(
    *,
    goals: int = 50,
    episodes: int = 200,
    steps: int = 30_000,
    robots: tuple[Literal[*list(ARMS)], ...] = tuple(ARMS),
    target_history: int | None = None,
    folder: Path = Path("runs/servo_policies"),
    out: Path | None = None,
    prepare: bool = False,
) -> None:
    """Measure the arms and print a table.

    Args:
        goals: Goals of each run.
        episodes: Episodes in simulation.
        steps: Environment steps of each training.
        robots: Arms to train and run.
        target_history: Past targets in the observation; 0 lets steps count from the measured position.
        folder: Folder of the trainings.
        out: File of JSON lines to write.
        prepare: Train and simulate only.
    """
    register(target_history)
    artifacts = {robot: trained(robot, folder, steps) for robot in robots}
    rows = [simulated(artifact, robot, episodes) for robot, artifact in artifacts.items()]
    if prepare:
        return
    for row, (robot, artifact) in zip(rows, artifacts.items(), strict=True):
        row |= {"robot": robot, **run(artifact, robot, goals, folder), **machine()}
    if out is not None:
        write(out, rows)
    print("\n| arm | in simulation | 95 % | over the bus | 95 % | outside limits | emulator late, ms |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        outside = sum(row["commands_outside_limits_by"].values())
        (low, high), (bus_low, bus_high) = row["success_simulation_ci95"], row["success_bus_ci95"]
        print(
            f"| {row['robot']} | {row['success_simulation']:.1%} of {row['episodes']} "
            f"| {low:.1%} to {high:.1%} | {row['successes']} of {row['goals']} "
            f"| {bus_low:.1%} to {bus_high:.1%} | {outside} | {row['emulator_late_ms_max']:.0f} |"
        )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
