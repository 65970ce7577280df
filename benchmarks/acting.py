"""Compares which policy to deploy, the last one or its running average, and which of its particles acts.

Trains once and evaluates all variants at every evaluation, so that they are compared on the same training.

    python benchmarks/acting.py run --env Hopper-v5 --seed 1 --steps 20000
    python benchmarks/acting.py table
"""

import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import get_args
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tyro
from rows import append

from wpg.controllers import TrainConfig, evaluate, train
from wpg.controllers.acting import make_act
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.config import Select
from wpg.controllers.experience.evaluation import Evaluation
from wpg.controllers.training.evaluations import TrainingEvaluation

RESULTS = Path(__file__).parent / "results" / "acting.jsonl"


def run(env: str, *, seed: int = 0, steps: int = 20_000, episodes: int = 5, out: Path = RESULTS) -> None:
    """Train once with eight evaluations, and append one line.

    Args:
        env: Gymnasium id.
        seed: Of training.
        steps: Environment steps.
        episodes: Of every evaluation.
        out: File of JSON lines.
    """
    curve: list[dict[str, float]] = []
    plain = TrainingEvaluation.evaluate

    def evaluate_all(evaluation: TrainingEvaluation, learner: Learner, step: int) -> Evaluation:
        row = {"steps": float(step)}
        actor = learner.wait_for_actor()
        for name, policy in (("policy", actor.policy), ("average", actor.average)):
            for select in get_args(Select):
                act = make_act(policy, learner.critic, evaluation.spec, select, seed=seed)
                found = evaluate(act, evaluation.env, episodes, seed=seed).return_mean
                row[f"{name}, {select}"] = round(found, 1)
        curve.append(row)
        print(json.dumps(row), flush=True)
        return plain(evaluation, learner, step)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(TrainingEvaluation, "evaluate", evaluate_all),
    ):
        config = TrainConfig(env=env, seed=seed, steps=steps, eval_period=max(steps // 8, 1), eval_episodes=1)
        train(config, out=Path(folder) / "run")
    append(out, {"env": env, "seed": seed, "curve": curve})


def table(*, results: Path = RESULTS, last: int = 3) -> None:
    """Print the mean return over the last evaluations of every run.

    Args:
        results: File of JSON lines.
        last: Number of evaluations.
    """
    cells: dict[str, list[str]] = defaultdict(list)
    records = [json.loads(line) for line in results.read_text().splitlines()]
    for record in records:
        for name in [name for name in record["curve"][-1] if name != "steps"]:
            cells[name].append(f"{np.mean([row[name] for row in record['curve'][-last:]]):,.0f}")
    print("| acting | " + " | ".join(f"{r['env']}, seed {r['seed']}" for r in records) + " |")
    print("|---" * (1 + len(records)) + "|")
    for name, values in cells.items():
        print(f"| {name} | {' | '.join(values)} |")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
