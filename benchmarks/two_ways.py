"""Measures what several modes are worth: a Panda reaches past an obstacle in one of two ways.

The policy chooses once, before the arm moves, by which via-point the tool goes to its goal. In training,
starts lie in front of the obstacle and goals behind it. In the tests both ways are about as long, and one may
be closed, which training never saw. The obstacle is a wall with two windows, one on the left and high, one on
the right and low. Alternatively it is a column, which leaves more room.

Of 16 via-points drawn from the policy, the arm drives the one with the best value. A guard that knows what is
closed plays all 16 in a kinematic model of the arm and takes the best of those that touch nothing. If none is
left, the arm stays where it is. A policy that kept both ways still has one left.

The task is in `two_ways_env.py`. `particles` is this package's policy with K = 16, `gaussian` the same with
K = 1, `sac` Stable-Baselines3's SAC (`pip install stable-baselines3`).

    python benchmarks/two_ways.py run --policy particles --seed 0
    python benchmarks/two_ways.py run --policy sac --seed 0 --obstacle column
    python benchmarks/two_ways.py table --figure docs/images/two_ways.png
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rows import append
from two_ways_env import (
    ENV_ID,
    GOAL_M,
    MIDDLE_M,
    START_M,
    WALL_HALF_M,
    WINDOW_HALF_M,
    WINDOW_M,
    Array,
    Obstacle,
    TwoWaysEnv,
    crossings,
    touched,
)

from wpg.sim_envs.tasks.interface import CONTROL_DT_S
from wpg.sim_envs.tasks.reach import TOLERANCE_M

PolicyName = Literal["particles", "gaussian", "sac"]
Proposer = Callable[[Array], tuple[Array, Array]]
"""From an observation (6,) to 16 actions (16, 3) in [−1, 1] drawn from the policy, and their values (16,)."""

RESULTS = Path(__file__).parent / "results" / "two_ways.jsonl"
TESTED_M = 0.005
"""Half width of the tests' starts and goals around their middles."""
MARGIN_M = 0.01
"""Of the guard, around whatever stands there."""
DRAWN = 16
CLOSED = {"none": 0, "left": 1, "right": -1}
"""Closed way: sign of its y."""
TESTS = {
    "open": ("none", False),
    "left closed": ("left", False),
    "right closed": ("right", False),
    "left closed, guard": ("left", True),
    "right closed, guard": ("right", True),
}
"""Name of each test: which way is closed, and whether the guard knows."""
TITLES = {"particles": "16 particles", "gaussian": "one Gaussian (K = 1)", "sac": "SAC (SB3)"}


def train_own(
    num_particles: int,
    *,
    obstacle: Obstacle,
    seed: int,
    steps: int,
    target_entropy: float,
    initial_tau: float,
) -> tuple[Proposer, dict[str, float]]:
    """This package's policy: its proposer, seconds of training, and the temperature at the end."""
    from wpg.controllers import TrainConfig, load_run, train  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            env=ENV_ID,
            env_kwargs={"obstacle": obstacle},
            seed=seed,
            steps=steps,
            learning_starts=steps // 8,
            num_particles=num_particles,
            hidden=128,
            final_learning_rate_share=0.1,
            policy_delay=2,
            initial_tau=initial_tau,
            temperature_pace=3.0,
            target_entropy=target_entropy,
            eval_period=0,
        )
        result = train(config, out=Path(folder) / "run")
        run = load_run(result.folder)
    generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def propose(obs: Array) -> tuple[Array, Array]:
        row = torch.from_numpy(obs)[None]
        actions = run.policy.sample(row, DRAWN, generator)[0]
        values = run.critic(row.expand(DRAWN, -1), actions).amin(0)
        return actions.numpy(), values.numpy()

    return propose, {"train_s": result.train_seconds, "tau": run.metadata.tau}


def train_sac(
    *, obstacle: Obstacle, seed: int, steps: int, target_entropy: float, initial_tau: float
) -> tuple[Proposer, dict[str, float]]:
    """SAC with networks as wide, else its defaults: as `train_own`."""
    from stable_baselines3 import SAC  # noqa: PLC0415

    torch.set_num_threads(1)
    model = SAC(
        "MlpPolicy",
        gymnasium.make(ENV_ID, obstacle=obstacle),
        learning_rate=1e-3,
        learning_starts=steps // 8,
        policy_kwargs={"net_arch": [128, 128]},
        ent_coef=f"auto_{initial_tau}",
        target_entropy=target_entropy,
        seed=seed,
    )
    begun = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begun

    @torch.inference_mode()
    def propose(obs: Array) -> tuple[Array, Array]:
        rows = torch.from_numpy(obs).expand(DRAWN, -1)
        actions = model.actor(rows)
        values = torch.cat(model.critic(rows, actions), 1).amin(1)
        return actions.numpy(), values.numpy()

    return propose, {"train_s": seconds, "tau": model.log_ent_coef.exp().item()}


class Trial(NamedTuple):
    """One episode of a test."""

    success: bool
    """Whether the goal was reached and nothing touched."""
    path_m: Array
    """The tool's way, (T, 3)."""
    crossings_m: Array
    """Where the 16 draws would pass the obstacle's middle, (16, 2)."""
    good: NDArray[np.bool_]
    """Which of them would touch nothing and arrive, (16,)."""


def episode(env: TwoWaysEnv, propose: Proposer, *, seed: int, closed: int, guard: bool) -> Trial:
    """Draw, choose and drive once."""
    start, goal = np.random.default_rng(seed).uniform(-TESTED_M, TESTED_M, (2, 3))
    obs, _ = env.reset(options={"start_m": START_M + start, "goal_m": GOAL_M + goal})
    actions, values = propose(obs)
    paths = env.foresee(actions)
    arrived = np.linalg.norm(paths[-1] - obs[3:], axis=1) < TOLERANCE_M
    drawn = crossings(paths), arrived & ~touched(paths, env.obstacle, closed=closed)
    if guard:
        values = np.where(touched(paths, env.obstacle, closed=closed, margin_m=MARGIN_M), -np.inf, values)
    if not np.isfinite(values).any():
        return Trial(False, obs[None, :3], *drawn)
    _, _, _, _, info = env.step(actions[values.argmax()])
    unhurt = not touched(info["path_m"], env.obstacle, closed=closed)
    return Trial(bool(info["is_success"] and unhurt), info["path_m"], *drawn)


def run(
    policy: PolicyName,
    *,
    obstacle: Obstacle = "wall",
    seed: int = 0,
    steps: int = 6000,
    target_entropy: float = -1.0,
    initial_tau: float = 1.0,
    episodes: int = 60,
    out: Path = RESULTS,
) -> None:
    """Train one policy; test it with both ways open and with either closed, without and with the guard.

    Args:
        policy: Policy to train.
        obstacle: Obstacle between start and goal.
        seed: Seed of the training.
        steps: Episodes of training.
        target_entropy: Entropy in nat that the temperature steers to; SAC's default is −3 here.
        initial_tau: Temperature at the start, 1 by default in SAC, too.
        episodes: Episodes of every test.
        out: File of JSON lines.
    """
    settings: dict[str, Any] = {
        "obstacle": obstacle,
        "seed": seed,
        "steps": steps,
        "target_entropy": target_entropy,
        "initial_tau": initial_tau,
    }
    if policy == "sac":
        propose, training = train_sac(**settings)
    else:
        propose, training = train_own(16 if policy == "particles" else 1, **settings)
    record = {"policy": policy} | settings | {name: round(value, 3) for name, value in training.items()}
    env = TwoWaysEnv(obstacle)
    for name, (closed, guard) in TESTS.items():
        trials = [
            episode(env, propose, seed=10_000 + i, closed=CLOSED[closed], guard=guard)
            for i in range(episodes)
        ]
        record[name] = sum(trial.success for trial in trials) / episodes
        record[f"{name}: paths"] = [
            trial.path_m[:, :2].astype(float).round(3).tolist() for trial in trials[:12]
        ]
        if name == "open":
            record |= describe_draws(trials)
    append(out, record)
    print({key: value for key, value in record.items() if not isinstance(value, list)})


def describe_draws(trials: list[Trial]) -> dict[str, Any]:
    """What was drawn while both ways were open: how many draws would do, and whether those go both ways."""
    left = [trial.crossings_m[trial.good, 0] > 0 for trial in trials]
    return {
        "good_draws": round(float(np.mean([trial.good.mean() for trial in trials])), 3),
        "both_ways": float(np.mean([ways.any() and not ways.all() for ways in left])),
        "seconds": round(CONTROL_DT_S * float(np.mean([len(trial.path_m) - 1 for trial in trials])), 3),
        "crossings": trials[0].crossings_m.round(3).tolist(),
        "good": trials[0].good.tolist(),
    }


def table(*, results: Path = RESULTS, figure: Path | None = None) -> None:
    """Print what the tests showed, the mean over seeds and its range; draw the lowest seed of every policy.

    Args:
        results: File of JSON lines.
        figure: Also draw this picture.
    """
    records = sorted(map(json.loads, results.read_text().splitlines()), key=lambda record: record["seed"])
    keys = ("obstacle", "target_entropy", "initial_tau", "policy")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    heads = [*keys, "seeds", "τ", "good draws", "both ways", *TESTS]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for group in sorted(groups, key=str):
        members = groups[group]
        cells = [*map(str, group), str(len(members))]
        cells += [f"{np.mean([r[key] for r in members]):.2f}" for key in ("tau", "good_draws", "both_ways")]
        for test in TESTS:
            shares = [r[test] for r in members]
            cells.append(f"{np.mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        print(f"| {' | '.join(cells)} |")
    if figure is not None:
        draw([groups["wall", -1.0, 1.0, policy][0] for policy in TITLES], figure)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """A row a policy: its draws seen from the robot, then the paths of three tests from above."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    tests = {name: TESTS[name][0] for name in ("open", "left closed, guard", "right closed, guard")}
    shape = len(records), 1 + len(tests)
    figure, grid = plt.subplots(*shape, figsize=(12.4, 7.5), squeeze=False, layout="constrained")
    for axes, record in zip(grid, records, strict=True):
        front, *cells = axes
        front.set_title(TITLES[record["policy"]], loc="left", fontweight="bold")
        front.set_ylabel("above the middle, m")
        front.set(xlim=(0.16, -0.16), ylim=(-0.12, 0.12), aspect="equal", facecolor="0.6")
        front.set_xlabel(f"to the left, m\n16 draws; of all draws {record['good_draws']:.1%} pass")
        for side in (1, -1):
            corner = side * WINDOW_M - WINDOW_HALF_M
            front.add_patch(plt.Rectangle(corner, 2 * WINDOW_HALF_M, 2 * WINDOW_HALF_M, color="white"))
        colours = np.where(record["good"], "tab:green", "tab:red")
        front.scatter(*np.array(record["crossings"]).T, c=colours, s=14, zorder=2)
        for cell, (test, closed) in zip(cells, tests.items(), strict=True):
            gaps = [-np.inf, -WINDOW_M[0], WINDOW_M[0], np.inf]
            for left, right in pairwise(gaps):
                y = max(left + WINDOW_HALF_M, -0.16), min(right - WINDOW_HALF_M, 0.16)
                cell.fill_between(y, *(MIDDLE_M[0] + WALL_HALF_M * np.array([[-1], [1]])), color="0.6")
            if CLOSED[closed]:
                y = CLOSED[closed] * WINDOW_M[0] + WINDOW_HALF_M * np.array([-1, 1])
                cell.fill_between(y, *(MIDDLE_M[0] + WALL_HALF_M * np.array([[-1], [1]])), color="tab:red")
            for line in record[f"{test}: paths"]:
                cell.plot(*np.array(line).T[1::-1], color="tab:blue", alpha=0.6, lw=1)
            cell.plot(START_M[1], START_M[0], "o", color="0.35", ms=5)
            cell.plot(GOAL_M[1], GOAL_M[0], "*", color="tab:green", ms=12)
            cell.set(xlim=(0.16, -0.16), ylim=(0.32, 0.53), aspect="equal")
            cell.set_xlabel(f"to the left, m\n{test}: {record[test]:.0%} succeed")
        cells[0].set_ylabel("away from the base, m")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
