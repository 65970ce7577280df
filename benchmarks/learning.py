"""Measures returns over steps and seconds on Gymnasium's locomotion, one core each, for `wpg` and its peers.

One call trains one algorithm on one environment with one seed and appends one JSON line to `--out`;
`--algorithm wpg` needs this package, the others need `pip install sbx-rl sb3-contrib` (in a separate
environment if necessary). Every algorithm runs with its library's defaults. CrossQ, whose default critic is
four times wider than the others', also runs with a critic as wide as theirs (`crossq256`). Seconds are the
process's processor time without evaluations, so that other work on the machine matters little.

    python benchmarks/learning.py run --algorithm wpg --env HalfCheetah-v5 --seed 0
    python benchmarks/learning.py run --algorithm crossq256 --env HalfCheetah-v5 --seed 0
    python benchmarks/learning.py run --algorithm wpg --env Ant-v5 --settings learning_starts 2500
    python benchmarks/learning.py table                     # interquartile means with bootstrap intervals
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import gymnasium
import numpy as np
import tyro
from metrics import evaluations
from numpy.typing import NDArray
from rows import append, machine

Algorithm = Literal["wpg", "crossq256", "crossq", "sac", "tqc"]
Curve = list[dict[str, float]]
RESULTS = Path(__file__).parent / "results" / "learning.jsonl"


def run_wpg(
    env: str, *, seed: int, steps: int, period: int, episodes: int, settings: dict[str, float]
) -> Curve:
    """Our trainer, with its defaults but for `settings` of `TrainConfig`."""
    from wpg.controllers import TrainConfig, train  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            env=env,
            seed=seed,
            steps=steps,
            eval_period=period,
            eval_episodes=episodes,
            checkpoint_period=steps,
            overlap=False,
            **settings,
        )
        begun = time.process_time()
        result = train(config, out=Path(folder) / "run")
        spent = time.process_time() - begun
        found = evaluations(result, "eval_return")
    share = spent / (result.train_seconds + result.eval_seconds)
    return [
        {"steps": steps, "return": round(mean, 1), "train_s": round(train_s * share, 1)}
        for steps, mean, train_s in found
    ]


def run_peer(algorithm: Algorithm, env: str, *, seed: int, steps: int, period: int, episodes: int) -> Curve:
    """Stable-Baselines3's family: SB3's SAC, sb3-contrib's TQC, SBX's CrossQ."""
    import torch  # noqa: PLC0415
    from stable_baselines3.common.evaluation import evaluate_policy  # noqa: PLC0415

    torch.set_num_threads(1)
    model = _peer(algorithm, env, seed)
    evaluation_env = gymnasium.make(env)
    evaluation_env.reset(seed=seed + 1000)
    rows: Curve = []
    spent = 0.0
    for done in range(period, steps + 1, period):
        begun = time.process_time()
        model.learn(period, reset_num_timesteps=not rows, progress_bar=False)
        spent += time.process_time() - begun
        mean, _ = evaluate_policy(model, evaluation_env, n_eval_episodes=episodes, warn=False)
        rows.append({"steps": done, "return": round(float(mean), 1), "train_s": round(spent, 1)})
    return rows


def _peer(algorithm: Algorithm, env: str, seed: int) -> Any:
    if algorithm == "sac":
        from stable_baselines3 import SAC  # noqa: PLC0415

        return SAC("MlpPolicy", env, seed=seed)
    if algorithm == "tqc":
        from sb3_contrib import TQC  # noqa: PLC0415

        return TQC("MlpPolicy", env, seed=seed)
    from sbx import CrossQ  # noqa: PLC0415

    narrow = {"net_arch": {"pi": [256, 256], "qf": [256, 256]}} if algorithm == "crossq256" else None
    return CrossQ("MlpPolicy", env, seed=seed, policy_kwargs=narrow)


def run(
    algorithm: Algorithm,
    env: str,
    *,
    seed: int = 0,
    steps: int = 30_000,
    period: int = 5_000,
    episodes: int = 10,
    settings: dict[str, float] = {},  # noqa: B006  nobody changes it
    out: Path = RESULTS,
) -> None:
    """Train once and append one line to `out`.

    Args:
        algorithm: What trains.
        env: Gymnasium id.
        seed: Seed of the training.
        steps: Environment steps.
        period: Steps from one evaluation to the next.
        episodes: Episodes of each evaluation.
        settings: Settings of `wpg` that differ from its defaults, by name.
        out: File of JSON lines.
    """
    budget = {"seed": seed, "steps": steps, "period": period, "episodes": episodes}
    if settings and algorithm != "wpg":
        raise SystemExit(f"--settings are those of wpg, not of {algorithm}")
    if algorithm == "wpg":
        curve = run_wpg(env, **budget, settings=settings)
    else:
        curve = run_peer(algorithm, env, **budget)
    import mujoco  # noqa: PLC0415

    record = {
        "algorithm": " ".join([algorithm, *(f"{name}={value:g}" for name, value in settings.items())]),
        "env": env,
        "seed": seed,
        "curve": curve,
        "mujoco": mujoco.__version__,
        **machine(),
    }
    append(out, record)
    print(json.dumps(record))


def table(results: Path = RESULTS) -> None:
    """Print, for every environment and algorithm, the last evaluation over the seeds.

    Interquartile mean with a 95 % interval from a bootstrap over the runs (Agarwal et al. 2021, "Deep
    Reinforcement Learning at the Edge of the Statistical Precipice"); the steps after which the interquartile
    mean was first at least that of CrossQ's last evaluation with a critic as wide; and the median seconds on
    every kind of machine: those of different machines do not compare.

    Args:
        results: File of JSON lines.
    """
    groups: dict[tuple[str, str, int], list[Any]] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        key = record["env"], record["algorithm"], record["curve"][-1]["steps"]
        groups.setdefault(key, []).append(record)
    print("| environment | algorithm | steps | runs | returns | IQM | 95 % | to CrossQ's | training s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (env, algorithm, steps), records in sorted(groups.items()):
        curve = _iqm_curve(records)
        values = np.array([record["curve"][-1]["return"] for record in records])
        reference = groups.get((env, "crossq256", steps))
        cells = [
            env,
            algorithm,
            f"{steps:,}",
            str(len(values)),
            ", ".join(f"{value:,.0f}" for value in values),
            f"{curve[-1][1]:,.0f}",
            _interval(values),
            "–" if reference is None else _steps_to(_iqm_curve(reference)[-1][1], curve),
            _seconds(records),
        ]
        print(f"| {' | '.join(cells)} |")


def _iqm(values: NDArray[np.float64], axis: int = -1) -> Any:
    from scipy.stats import trim_mean  # noqa: PLC0415

    return trim_mean(values, 0.25, axis=axis)


def _interval(values: NDArray[np.float64]) -> str:
    from scipy.stats import bootstrap  # noqa: PLC0415

    if len(values) < 3:
        return "–"
    low, high = bootstrap((values,), _iqm, method="percentile", rng=0).confidence_interval
    return f"{low:,.0f} to {high:,.0f}"


def _iqm_curve(records: list[Any]) -> list[tuple[int, float]]:
    """Steps and interquartile mean of the return, evaluation by evaluation."""
    return [
        (rows[0]["steps"], float(_iqm(np.array([row["return"] for row in rows]))))
        for rows in zip(*(record["curve"] for record in records), strict=True)
    ]


def _steps_to(value: float, curve: list[tuple[int, float]]) -> str:
    return next((f"{steps:,}" for steps, iqm in curve if iqm >= value), "not")


def _seconds(records: list[Any]) -> str:
    spent: dict[str, list[float]] = {}
    for record in records:
        spent.setdefault(record["machine"], []).append(record["curve"][-1]["train_s"])
    return "; ".join(f"{np.median(values):.0f} ({machine})" for machine, values in sorted(spent.items()))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
