"""The demo's training over several seeds: seconds, and success of the exported file on both engines.

python benchmarks/reach_seeds.py --seeds 5 --out benchmarks/results/reach_seeds.jsonl
"""

import json
import platform
import statistics
import tempfile
from pathlib import Path

import tyro

from wpg.cli.artifacts import export_run
from wpg.cli.demo import OTHER_ENV, TRAIN_ENV, TRAIN_SECONDS, TRAIN_STEPS
from wpg.cli.evaluate import evaluate_policy
from wpg.controllers import TrainConfig, train


def trial(seed: int, episodes: int) -> dict[str, float]:
    """Train, export and evaluate one seed."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(env=TRAIN_ENV, seed=seed, steps=TRAIN_STEPS, max_seconds=TRAIN_SECONDS)
        result = train(config, out=Path(folder) / "run")
        artifact = export_run(result.folder, result.folder / "policy.onnx")
        success = {
            env: evaluate_policy(artifact, env=env, episodes=episodes, select="best").success_rate or 0.0
            for env in (TRAIN_ENV, OTHER_ENV)
        }
    return {
        "seed": seed,
        "steps": result.steps,
        "train_s": round(result.train_seconds + result.eval_seconds, 1),
        "success_mujoco": success[TRAIN_ENV],
        "success_pybullet": success[OTHER_ENV],
    }


def main(seeds: int = 5, episodes: int = 100, out: Path | None = None) -> None:
    """Run every seed and print the worst and the median.

    Args:
        seeds: How many, counted from 0.
        episodes: Episodes of each evaluation.
        out: Also write a line of JSON a seed to this file.
    """
    rows = []
    for seed in range(seeds):
        rows.append(trial(seed, episodes))
        print(json.dumps(rows[-1]), flush=True)
    for key, worst in (("train_s", max), ("success_mujoco", min), ("success_pybullet", min)):
        values = [row[key] for row in rows]
        print(f"{key}: worst {worst(values):g}, median {statistics.median(values):g}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        out.write_text("".join(json.dumps(row | machine) + "\n" for row in rows))


if __name__ == "__main__":
    tyro.cli(main)
