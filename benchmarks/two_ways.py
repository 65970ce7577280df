"""What several modes are worth: a panda that must pass a column on its left or on its right.

In training the tool starts and the goal lies anywhere around the column. In the tests it starts in front
of it, the goal lies behind it, and both ways are as long; then one is closed by a wall that training never
saw. A guard that knows the wall refuses every action that would lead into it within three steps; of 16
actions drawn from the policy, the allowed one with the best value is taken. A policy that kept both ways
has one left.

The column and the wall are for the tool's point alone. Reward: −1 a step away from the goal, −5 a step in
the column; hindsight relabelling for all. `particles` is this package's policy with K = 16, `gaussian` the
same with K = 1, `sac` Stable-Baselines3's SAC with HER (`pip install stable-baselines3`).

    python benchmarks/two_ways.py run --policy particles --seed 0
    python benchmarks/two_ways.py run --policy sac --seed 0
    python benchmarks/two_ways.py table --figure two_ways.png
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from wpg.sim_envs.reach import ReachEnv

PolicyName = Literal["particles", "gaussian", "sac"]
Array = NDArray[np.floating]
Proposer = Callable[[dict[str, Array]], tuple[Array, Array]]
"""From an observation to 16 actions (16, 3) in [−1, 1], drawn from the policy, and their values (16,)."""

RESULTS = Path(__file__).parent / "results" / "two_ways.jsonl"
ENV_ID = "TwoWays-v0"
START_M, GOAL_M = np.array([0.34, 0.0, 0.35]), np.array([0.50, 0.0, 0.35])
SPREAD_M = 0.01
"""Half width of the tests' starts and goals around these places."""
LOW_M, HIGH_M = np.array([0.30, -0.14, 0.30]), np.array([0.54, 0.14, 0.40])
"""Box of training's starts and goals."""
COLUMN_M, COLUMN_RADIUS_M = np.array([0.42, 0.0]), 0.04
COLUMN_COST = 5.0
WALL_HALF_M = 0.03
"""Half thickness of the wall that closes the way from the column outwards."""
SCALE_M = 0.05
"""The tool's displacement at an action of 1."""
LOOK_AHEAD = 3
"""Steps straight on that the guard looks ahead."""
STEPS = 40
DRAWN = 16
TARGET_ENTROPY = -3.0
"""Of the actions, nat: −1 a dimension, which is also what SAC steers to."""
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
TITLES = {"particles": "16 particles", "gaussian": "one Gaussian (K = 1)", "sac": "SAC + HER (SB3)"}


class TwoWaysEnv(ReachEnv):
    """Reach round a column, actions in metres of the tool; `options["tool_m"]` says where it starts."""

    def __init__(self) -> None:
        super().__init__(control="tool")

    def _start(self) -> Array:
        """Joints with the tool at the start, by damped least squares."""
        wanted = np.asarray(self._options.get("tool_m", self._draw_goal()))
        joints = self._home.copy()
        for _ in range(100):
            place, jacobian = self._kinematics.differentiate(joints, self.robot.description.approach)
            error = np.concatenate([wanted - place[:3], [0.0, 0.0, -1.0] - place[3:]])
            joints += jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
        self.robot.reset(joints)
        return joints

    def _draw_goal(self) -> Array:
        while in_column(place := self.np_random.uniform(LOW_M, HIGH_M)):
            pass
        return place

    def step(self, action: Array) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One policy period."""
        obs, _, terminated, truncated, info = super().step(action)
        reward = self.compute_reward(obs["achieved_goal"], obs["desired_goal"], info)
        return obs, float(reward), terminated, truncated, info

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """Reward of any achieved for any desired goal, (..., 3) and (..., 3) -> (...)."""
        reach = super().compute_reward(achieved_goal, desired_goal, info)
        return np.asarray(reach - COLUMN_COST * in_column(achieved_goal), np.float32)


gymnasium.register(ENV_ID, entry_point=TwoWaysEnv, max_episode_steps=STEPS)


def in_column(place: Array) -> NDArray[np.bool_]:
    """Whether the tool is in the column, (..., 3) -> (...)."""
    inside: NDArray[np.bool_] = np.hypot(*np.moveaxis(place[..., :2] - COLUMN_M, -1, 0)) < COLUMN_RADIUS_M
    return inside


def in_wall(place: Array, closed: int) -> NDArray[np.bool_]:
    """Whether the tool is in the wall that closes a way, (..., 3) -> (...)."""
    inside: NDArray[np.bool_] = (np.abs(place[..., 0] - COLUMN_M[0]) < WALL_HALF_M) & (
        place[..., 1] * closed > 0
    )
    return inside


def allowed(place: Array, actions: Array, closed: int) -> NDArray[np.bool_]:
    """The guard: which actions (N, 3), held for some steps, keep the tool out of the wall, (N,)."""
    ahead = np.linspace(0, LOOK_AHEAD, 4 * LOOK_AHEAD + 1)[:, None, None]
    return ~in_wall(place + ahead * SCALE_M * actions, closed).any(0)


def train_own(num_particles: int, *, seed: int, steps: int) -> tuple[Proposer, float]:
    """This package's policy: its proposer, and seconds of training."""
    from wpg.controllers import TrainConfig, load_run, train  # noqa: PLC0415
    from wpg.controllers.environment import flatten_obs  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"num_particles": num_particles, "target_entropy": TARGET_ENTROPY}
        config = TrainConfig(env=ENV_ID, seed=seed, steps=steps, eval_period=0, **settings)
        result = train(config, out=Path(folder) / "run")
        run = load_run(result.folder)
    generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def propose(obs: dict[str, Array]) -> tuple[Array, Array]:
        row = torch.from_numpy(flatten_obs(obs))[None]
        actions = run.policy.sample(row, DRAWN, generator)[0]
        values = run.critic(row.expand(DRAWN, -1), actions).amin(0)
        return actions.numpy(), values.numpy()

    return propose, result.train_seconds


def train_sac(*, seed: int, steps: int) -> tuple[Proposer, float]:
    """SAC with hindsight, settings of RL Zoo's panda-gym reach: its proposer, and seconds of training."""
    from stable_baselines3 import SAC, HerReplayBuffer  # noqa: PLC0415

    torch.set_num_threads(1)
    model = SAC(
        "MultiInputPolicy",
        gymnasium.make(ENV_ID),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        learning_rate=1e-3,
        gamma=0.95,
        batch_size=256,
        learning_starts=1000,
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
    )
    begun = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begun

    @torch.inference_mode()
    def propose(obs: dict[str, Array]) -> tuple[Array, Array]:
        many = {name: np.repeat(part[None], DRAWN, 0) for name, part in obs.items()}
        tensors, _ = model.policy.obs_to_tensor(many)
        actions = model.actor(tensors)
        values = torch.cat(model.critic(tensors, actions), 1).amin(1)
        return actions.numpy(), values.numpy()

    return propose, seconds


def places(seed: int) -> dict[str, Array]:
    """Start and goal of a test."""
    start, goal = np.random.default_rng(seed).uniform(-SPREAD_M, SPREAD_M, (2, 3))
    return {"tool_m": START_M + start, "goal_m": GOAL_M + goal}


def episode(
    env: gymnasium.Env[Any, Any], propose: Proposer, *, seed: int, closed: int, guard: bool
) -> tuple[bool, list[list[float]]]:
    """Whether the goal was reached at the end and nothing touched on the way; the tool's path, (T, 2) m."""
    obs, info = env.reset(seed=seed, options=places(seed))
    place = obs["achieved_goal"]
    path, touched, over = [place[:2].round(4).tolist()], False, False
    while not over:
        actions, values = propose(obs)
        if guard:
            free = allowed(place, actions, closed)
            values = np.where(free, values, -np.inf)
        action = actions[values.argmax()] if np.isfinite(values).any() else np.zeros(3, np.float32)
        before = place
        obs, _, terminated, truncated, info = env.step(action)
        place, over = obs["achieved_goal"], terminated or truncated
        between = before + np.linspace(0, 1, 6)[:, None] * (place - before)
        touched |= bool(in_column(between).any() or in_wall(between, closed).any())
        path.append(place[:2].round(4).tolist())
        if touched:
            break
    return bool(info["is_success"]) and not touched, path


def run(
    policy: PolicyName, *, seed: int = 0, steps: int = 20_000, episodes: int = 50, out: Path = RESULTS
) -> None:
    """Train one policy, test it with every way open, one closed, and one closed and guarded; append a line.

    Args:
        policy: Which.
        seed: Of training.
        steps: Environment steps of training.
        episodes: Of every test.
        out: File of JSON lines.
    """
    if policy == "sac":
        propose, seconds = train_sac(seed=seed, steps=steps)
    else:
        propose, seconds = train_own(16 if policy == "particles" else 1, seed=seed, steps=steps)
    record: dict[str, Any] = {"policy": policy, "seed": seed, "steps": steps, "train_s": round(seconds)}
    env = gymnasium.make(ENV_ID)
    obs, _ = env.reset(seed=10_000, options={"tool_m": START_M, "goal_m": GOAL_M})
    record["first_actions"] = propose(obs)[0].round(3).tolist()
    for name, (closed, guard) in TESTS.items():
        results = [
            episode(env, propose, seed=10_000 + i, closed=CLOSED[closed], guard=guard)
            for i in range(episodes)
        ]
        record[name] = sum(success for success, _ in results) / episodes
        record[f"{name}: paths"] = [path for _, path in results[:10]]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print({key: value for key, value in record.items() if not isinstance(value, list)})


def table(*, results: Path = RESULTS, figure: Path | None = None) -> None:
    """Print what the tests showed, the mean over seeds; draw the lowest seed of every policy.

    Args:
        results: File of JSON lines.
        figure: Also draw this picture.
    """
    records = sorted(map(json.loads, results.read_text().splitlines()), key=lambda record: record["seed"])
    groups = {name: [r for r in records if r["policy"] == name] for name in TITLES}
    groups = {name: group for name, group in groups.items() if group}
    print("| policy | seeds | training s | " + " | ".join(TESTS) + " |\n|" + "---|" * (3 + len(TESTS)))
    for name, group in groups.items():
        cells = [TITLES[name], str(len(group)), f"{np.median([r['train_s'] for r in group]):.0f}"]
        cells += [f"{np.mean([r[test] for r in group]):.2f}" for test in TESTS]
        print(f"| {' | '.join(cells)} |")
    if figure is not None:
        draw({name: group[0] for name, group in groups.items()}, figure)


def draw(records: dict[str, dict[str, Any]], path: Path) -> None:
    """A column a policy: first actions and paths with both ways open, then with either way closed."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = {name: TESTS[name] for name in ("open", "left closed, guard", "right closed, guard")}
    shape = len(rows), len(records)
    figure, grid = plt.subplots(*shape, figsize=(3.1 * shape[1], 9), squeeze=False, layout="constrained")
    for axes, (name, record) in zip(grid.T, records.items(), strict=True):
        axes[0].set_title(TITLES[name])
        for cell, (test, (closed, _)) in zip(axes, rows.items(), strict=True):
            cell.add_patch(plt.Circle((COLUMN_M[1], COLUMN_M[0]), COLUMN_RADIUS_M, color="0.35"))
            if CLOSED[closed]:
                corner = (min(0, 0.2 * CLOSED[closed]), COLUMN_M[0] - WALL_HALF_M)
                cell.add_patch(plt.Rectangle(corner, 0.2, 2 * WALL_HALF_M, color="tab:red", alpha=0.4))
            for line in record[f"{test}: paths"]:
                x, y = np.array(line).T
                cell.plot(y, x, color="tab:blue", alpha=0.6, lw=1)
            first = np.array(record["first_actions"])
            start = np.array(record["open: paths"][0][0])
            if test == "open":
                arrows = {"angles": "xy", "scale_units": "xy", "scale": 1 / SCALE_M, "width": 0.006}
                at = np.broadcast_to(start, (len(first), 2))
                cell.quiver(at[:, 1], at[:, 0], first[:, 1], first[:, 0], color="tab:orange", **arrows)
            cell.plot(GOAL_M[1], GOAL_M[0], "*", color="tab:green", ms=12)
            cell.set(xlim=(0.16, -0.16), ylim=(0.27, 0.55), aspect="equal")
            cell.set_xlabel(f"{test}: {record[test]:.0%} succeed")
    for cell in grid[:, 0]:
        cell.set_ylabel("away from the base, m")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
