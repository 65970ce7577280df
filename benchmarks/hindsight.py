"""Compares learning from sparse reward on tasks with goals: `wpg`, and SAC with hindsight (SB3).

One call trains one algorithm on one environment with one seed, on one core, and appends one JSON line to
`--out`. `wpg` has its default settings. For reaching, SAC has the settings of RL Zoo (64 × 64, one critic, an
update a step) without its time feature. For moving objects it has those of `stable_baselines.py` with 10,000
random steps at first, which is far cheaper than the Zoo's batches of 2,048 through three layers of 512.
Success is what `info["is_success"]` says at the last step. Seconds are wall-clock time without evaluations.
Run it on a core that is free, or read them as upper bounds.

    pip install stable-baselines3 panda-gym gymnasium-robotics 'mujoco<4'
    python benchmarks/hindsight.py run --algorithm wpg --env wpg/PandaPush-v0 --steps 300000
    python benchmarks/hindsight.py run --algorithm sac --env FetchReach-v4 --steps 18000
    python benchmarks/hindsight.py table
"""

import importlib
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import mujoco
import numpy as np
import torch
import tyro
from metrics import evaluations
from rows import append

import wpg.sim_envs  # noqa: F401  registers ours
from wpg.controllers import TrainConfig, train

Algorithm = Literal["wpg", "sac"]
Row = dict[str, float]
RESULTS = Path(__file__).parent / "results" / "hindsight.jsonl"
MODULES = {"Panda": "panda_gym", "Fetch": "gymnasium_robotics"}
SOLVED = 0.95


def run_wpg(env: str, *, seed: int, steps: int, period: int, episodes: int, compile: bool) -> list[Row]:
    """Our trainer, defaults throughout."""
    config = TrainConfig(
        env=env,
        seed=seed,
        steps=steps,
        eval_period=period,
        eval_episodes=episodes,
        checkpoint_period=steps,
        compile=compile,
        overlap=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = evaluations(train(config, out=Path(folder) / "run"), "eval_success")
    return [
        {"steps": steps, "success": success, "train_s": round(train_s, 1)}
        for steps, success, train_s in found
    ]


def run_sac(env: str, *, seed: int, steps: int, period: int, episodes: int) -> list[Row]:
    """SAC with HerReplayBuffer, its observations normalised."""
    from stable_baselines3 import SAC, HerReplayBuffer  # noqa: PLC0415
    from stable_baselines3.common.env_util import make_vec_env  # noqa: PLC0415
    from stable_baselines3.common.vec_env import VecNormalize  # noqa: PLC0415

    reaching = "Reach" in env
    envs = VecNormalize(make_vec_env(env, n_envs=1 if reaching else 8, seed=seed), norm_reward=False)
    of_task: dict[str, Any] = (
        {"policy_kwargs": {"net_arch": [64, 64], "n_critics": 1}, "learning_starts": 1000}
        if reaching
        else {"gradient_steps": 2, "learning_starts": 10_000, "tau": 0.02, "ent_coef": "auto_0.1"}
    )
    model = SAC(
        "MultiInputPolicy",
        envs,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        learning_rate=1e-3,
        gamma=0.95,
        seed=seed,
        **of_task,
    )
    rows: list[Row] = []
    spent, judge = 0.0, gymnasium.make(env)
    for done in range(period, steps + 1, period):
        begun = time.perf_counter()
        model.learn(period, reset_num_timesteps=not rows, progress_bar=False)
        spent += time.perf_counter() - begun
        rows.append(
            {"steps": done, "success": _success(model, envs, judge, episodes), "train_s": round(spent, 1)}
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _success(model: Any, envs: Any, judge: gymnasium.Env[Any, Any], episodes: int) -> float:
    solved = 0
    for episode in range(episodes):
        obs, _ = judge.reset(seed=10_000 + episode)
        ended = False
        while not ended:
            action, _ = model.predict(envs.normalize_obs(obs), deterministic=True)
            obs, _, terminated, truncated, info = judge.step(action)
            ended = terminated or truncated
        solved += bool(info["is_success"])
    return solved / episodes


def run(
    algorithm: Algorithm,
    env: str,
    *,
    steps: int,
    seed: int = 0,
    period: int | None = None,
    episodes: int = 50,
    compile: bool = False,
    out: Path = RESULTS,
) -> None:
    """Train once and append one line to `out`.

    Args:
        algorithm: What trains.
        env: Gymnasium id.
        steps: Environment steps.
        seed: Seed of the training.
        period: Steps from one evaluation to the next; a twentieth of them by default.
        episodes: Episodes of each evaluation.
        compile: Compile our update.
        out: File of JSON lines.
    """
    torch.set_num_threads(1)
    importlib.import_module(
        next((m for start, m in MODULES.items() if env.startswith(start)), "wpg.sim_envs")
    )
    budget = {"seed": seed, "steps": steps, "period": period or steps // 20, "episodes": episodes}
    curve = run_wpg(env, **budget, compile=compile) if algorithm == "wpg" else run_sac(env, **budget)
    record = {
        "algorithm": algorithm,
        "env": env,
        "seed": seed,
        "compile": compile,
        "curve": curve,
        "mujoco": mujoco.__version__,
    }
    append(out, record)
    print(json.dumps(record))


def solved_at(curve: list[Row]) -> Row | None:
    """The first of two evaluations in a row that succeed in 95 % of their episodes."""
    pairs = itertools.pairwise(curve)
    return next((first for first, then in pairs if min(first["success"], then["success"]) >= SOLVED), None)


def table(results: Path = RESULTS) -> None:
    """Print, for every environment and algorithm, medians over the seeds.

    Args:
        results: File of JSON lines.
    """
    groups: dict[tuple[str, str, int], list[list[Row]]] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        algorithm = record["algorithm"] + (", compiled" if record["compile"] else "")
        curve = record["curve"]
        groups.setdefault((record["env"], algorithm, curve[-1]["steps"]), []).append(curve)
    print("| environment | algorithm | steps | seconds | success at the end | 0.95 after steps | seconds |")
    print("|---|---|---|---|---|---|---|")
    for (env, algorithm, steps), curves in sorted(groups.items()):
        ends = ", ".join(f"{curve[-1]['success']:.2f}" for curve in curves)
        seconds = statistics.median(curve[-1]["train_s"] for curve in curves)
        never = {"steps": np.inf, "train_s": np.inf}
        solved = [solved_at(curve) or never for curve in curves]
        medians = [statistics.median(row[key] for row in solved) for key in ("steps", "train_s")]
        cells = ["never", "–"] if np.isinf(medians[0]) else [f"{median:,.0f}" for median in medians]
        print(f"| {' | '.join([env, algorithm, f'{steps:,}', f'{seconds:.0f}', ends, *cells])} |")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
