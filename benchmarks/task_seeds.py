"""Trains on a task as ``wpg train`` does, over several seeds: seconds, and success of the exported file.

    python benchmarks/task_seeds.py [--task PandaPush] [--seeds 5] [--out benchmarks/results/PandaPush.jsonl]
    python benchmarks/task_seeds.py --task PandaPickAndPlace --demonstrations 200 --seeds 3

The file is evaluated on both engines; training uses MuJoCo only. A line is written after each seed.
"""

import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from rows import append, machine

from wpg.cli.commands.demonstrate import demonstrate
from wpg.cli.commands.evaluate import evaluate_policy
from wpg.controllers import TrainConfig, load_run, train
from wpg.export import export_run
from wpg.sim_envs.registration import TASKS
from wpg.sim_envs.tasks.interface import ControlName


def trial(config: TrainConfig, episodes: int, demonstrations: int) -> dict[str, Any]:
    """Record demonstrations, if any are wanted; train, export and evaluate one seed."""
    trained, other = config.env, config.env.replace("-v0", "Bullet-v0")
    with tempfile.TemporaryDirectory() as folder:
        if demonstrations:
            played = Path(folder) / "played.npz"
            demonstrate(trained, out=played, episodes=demonstrations, seed=config.seed, **config.env_kwargs)
            config = replace(config, demonstrations=str(played))
        result = train(config, out=Path(folder) / "run")
        hidden = load_run(result.folder).config.hidden
        artifact = export_run(result.folder, result.folder / "policy.onnx")
        mujoco, pybullet = (
            evaluate_policy(artifact, env=env, episodes=episodes, select="best") for env in (trained, other)
        )
    return {
        "task": trained,
        **config.env_kwargs,
        "demonstrations": demonstrations,
        "compile": config.compile,
        "hidden": hidden,
        "seed": config.seed,
        "steps": result.steps,
        "train_s": round(result.train_seconds + result.eval_seconds, 1),
        "success_mujoco": mujoco.success_rate,
        "success_pybullet": pybullet.success_rate,
        **machine(),
    }


def main(
    *,
    task: str = "PandaReach",
    control: ControlName | None = None,
    steps: int | None = None,
    seeds: int = 5,
    first_seed: int = 0,
    episodes: int = 100,
    demonstrations: int = 0,
    compile: bool = False,
    hidden: int | None = None,
    out: Path | None = None,
) -> None:
    """Run every seed and print the worst and the median.

    Args:
        task: PandaReach, PandaPush, PandaPickAndPlace or PandaInsert.
        control: What actions move; by default what the task is meant for.
        steps: Environment steps; by default the number that `wpg train` takes.
        seeds: Number of seeds.
        first_seed: The first of them.
        episodes: Episodes of each evaluation.
        demonstrations: Number of episodes of the task's script to learn from as well.
        compile: Compile the update, as `wpg train --compile` does.
        hidden: Width of the hidden layers; by default what the steps ask for.
        out: Also append one line of JSON for each seed to this file.
    """
    rows = []
    for seed in range(first_seed, first_seed + seeds):
        config = TrainConfig(
            env=f"wpg/{task}-v0",
            env_kwargs={} if control is None else {"control": control},
            seed=seed,
            steps=steps or TASKS[task].train_steps,
            compile=compile,
            hidden=hidden,
        )
        rows.append(trial(config, episodes, demonstrations))
        print(json.dumps(rows[-1]), flush=True)
        if out is not None:
            append(out, rows[-1])
    for key, worst in (("train_s", max), ("success_mujoco", min), ("success_pybullet", min)):
        values = [row[key] for row in rows]
        print(f"{key}: worst {worst(values):g}, median {statistics.median(values):g}")


if __name__ == "__main__":
    tyro.cli(main)
