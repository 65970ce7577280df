"""What several modes are worth: a panda that reaches past an obstacle in one of two ways.

The policy says once, before the arm moves, by which via-point the tool goes to its goal. In training, starts
lie in front of the obstacle and goals behind it; in the tests both ways are about as long, and one may be
closed, which training never saw. The obstacle is a wall with two windows, one on the left and high, one on
the right and low, or a column, which leaves more room.

Of 16 via-points drawn from the policy the one with the best value is driven. A guard that knows what is
closed plays all 16 in a kinematic model of the arm and takes the best of those that touch nothing; where none
is left the arm stays. A policy that kept both ways has one left.

Obstacles are for the tool's point alone. Reward: minus the seconds it takes, and −2 where the obstacle is
met. `particles` is this package's policy with K = 16, `gaussian` the same with K = 1, `sac`
Stable-Baselines3's SAC (`pip install stable-baselines3`).

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

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.sim_envs.reach import TOLERANCE_M, ReachEnv
from wpg.sim_envs.task_interface import CONTROL_DT_S, TOOL_SCALE_M

PolicyName = Literal["particles", "gaussian", "sac"]
Obstacle = Literal["wall", "column"]
Array = NDArray[np.floating]
Proposer = Callable[[Array], tuple[Array, Array]]
"""From an observation (6,) to 16 actions (16, 3) in [−1, 1] drawn from the policy, and their values (16,)."""

RESULTS = Path(__file__).parent / "results" / "two_ways.jsonl"
ENV_ID = "TwoWays-v0"
START_M, GOAL_M = np.array([0.34, 0.0, 0.35]), np.array([0.50, 0.0, 0.35])
TRAINED_M = np.array([0.02, 0.05, 0.03])
"""Half widths of training's starts and goals around these places."""
TESTED_M = 0.005
"""Half width of the tests'."""
MIDDLE_M = (START_M + GOAL_M) / 2
"""Of the obstacle."""
WINDOW_M, WINDOW_HALF_M = np.array([0.06, 0.05]), 0.03
"""The left window from the middle, along y and z; the right one lies opposite. Both are square."""
WALL_HALF_M = 0.01
"""Half thickness of the wall with the windows."""
COLUMN_RADIUS_M = 0.04
BARRIER_HALF_M = 0.03
"""Half thickness of what closes the way from the column outwards."""
MARGIN_M = 0.01
"""Of the guard, around all of them."""
VIA_M = 0.12
"""An action of 1 is a via-point this far from the middle between start and goal."""
PASSED_M = 0.03
"""The tool heads for the goal from this near to the via-point on."""
PERIODS = 60
"""Of 0.05 s, at most."""
CONTACT_COST = 2.0
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


class Foreseen(SetpointGenerator):
    """The setpoints of one policy period, from any joint positions and velocities."""

    def move(self, joint_pos: Array, joint_vel: Array, target: Array) -> tuple[Array, Array]:
        """Positions and velocities (1, num_joints) a period on."""
        self.reset(joint_pos)
        self._input.current_velocity = joint_vel.tolist()
        self.set_target(target)
        return self.steps(1)


class TwoWaysEnv(gymnasium.Env[Array, Array]):
    """One via-point an episode; `options` may say where the tool starts (`start_m`) and goes (`goal_m`).

    Observation: start and goal, (6,) m. Action: the via-point, (3,) in [−1, 1].
    """

    def __init__(self, obstacle: Obstacle = "wall") -> None:
        self.obstacle = obstacle
        self.arm = ReachEnv(control="tool")
        self.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        description = self.arm.robot.description
        self._approach, self._home = description.approach, description.limits("home_rad")
        self._kinematics = ForwardKinematics(description.kinematics())
        self._foreseen = Foreseen(description, CONTROL_DT_S)
        self._joints = self._home
        self._ends = np.zeros((2, 3))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Any]:
        """The arm at rest at a start."""
        super().reset(seed=seed)
        drawn = {
            name: middle + self.np_random.uniform(-TRAINED_M, TRAINED_M)
            for name, middle in (("start_m", START_M), ("goal_m", GOAL_M))
        }
        drawn |= options or {}
        self._joints = self._stand_at(drawn["start_m"])
        obs, _ = self.arm.reset(options={"joint_pos_rad": self._joints, "goal_m": drawn["goal_m"]})
        self._ends = np.array([obs["achieved_goal"], obs["desired_goal"]])
        return self._ends.astype(np.float32).ravel(), {}

    def _stand_at(self, place: Array) -> Array:
        """Joints (num_joints,) with the tool there, pointing down, by damped least squares."""
        joints = self._home.copy()
        for _ in range(30):
            pose, jacobian = self._kinematics.differentiate(joints, self._approach)
            error = np.concatenate([place - pose[:3], [0.0, 0.0, -1.0] - pose[3:]])
            joints += jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
        return joints

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """By the via-point to the goal; `info["path_m"]` (T, 3) is the way that the tool took."""
        via = self._ends.mean(0) + VIA_M * np.clip(action, -1, 1)
        path, passed, reached = [self._ends[0]], False, False
        while not reached and len(path) <= PERIODS:
            passed = passed or bool(np.linalg.norm(via - path[-1]) < PASSED_M)
            wish = (self._ends[1] if passed else via) - path[-1]
            obs, *_ = self.arm.step(np.clip(wish / TOOL_SCALE_M, -1, 1))
            path.append(obs["achieved_goal"])
            reached = passed and bool(np.linalg.norm(self._ends[1] - path[-1]) < TOLERANCE_M)
        info = {"path_m": np.array(path), "is_success": reached}
        reward = -CONTROL_DT_S * (len(path) - 1) - CONTACT_COST * touched(info["path_m"], self.obstacle)
        return self._ends.astype(np.float32).ravel(), float(reward), True, False, info

    def foresee(self, actions: Array) -> Array:
        """The ways (T, N, 3) m of N actions, if the arm were always where its setpoints are."""
        joints, speed = (
            np.repeat(self._joints[None], len(actions), 0),
            np.zeros((len(actions), len(self._joints))),
        )
        via = self._ends.mean(0) + VIA_M * actions
        path, passed = [np.repeat(self._ends[:1], len(actions), 0)], np.zeros(len(actions), np.bool_)
        for _ in range(PERIODS):
            passed |= np.linalg.norm(via - path[-1], axis=1) < PASSED_M
            wish = np.where(passed[:, None], self._ends[1], via) - path[-1]
            scaled = self.arm.scale_action(np.clip(wish / TOOL_SCALE_M, -1, 1), len(actions))
            aim = self.arm.aim(scaled, joints, joints)
            moved = [self._foreseen.move(*row) for row in zip(joints, speed, aim, strict=True)]
            joints, speed = (np.concatenate(part) for part in zip(*moved, strict=True))
            path.append(self._kinematics.differentiate(joints, self._approach)[0][:, :3])
        return np.array(path)


gymnasium.register(ENV_ID, entry_point=TwoWaysEnv)


def from_middle(path: Array) -> Array:
    """A path (T, ..., 3) m in quarters of its steps, (4, T − 1, ..., 3), seen from the obstacle's middle."""
    shares = np.linspace(0, 1, 4, endpoint=False).reshape(-1, *[1] * path.ndim)
    return np.asarray(path[:-1] + shares * np.diff(path, axis=0) - MIDDLE_M)


def touched(path: Array, obstacle: Obstacle, *, closed: int = 0, margin_m: float = 0.0) -> NDArray[np.bool_]:
    """Whether a path (T, ..., 3) meets the obstacle, or what closes the way on one side, (...)."""
    x, y, z = np.moveaxis(from_middle(path), -1, 0)
    if obstacle == "column":
        barrier = (np.abs(x) < BARRIER_HALF_M + margin_m) & (y * closed > 0)
        met = (np.hypot(x, y) < COLUMN_RADIUS_M + margin_m) | barrier
    else:
        through = np.zeros(x.shape, np.bool_)
        for side in {1, -1} - {closed}:
            offset = np.maximum(np.abs(y - side * WINDOW_M[0]), np.abs(z - side * WINDOW_M[1]))
            through |= offset < WINDOW_HALF_M - margin_m
        met = (np.abs(x) < WALL_HALF_M + margin_m) & ~through
    return np.asarray(met.any((0, 1)))


def crossings(paths: Array) -> Array:
    """Where N paths (T, N, 3) m pass the obstacle's middle: y and z seen from there, (N, 2)."""
    places = from_middle(paths).reshape(-1, *paths.shape[1:])
    nearest = np.abs(places[..., 0]).argmin(0)
    return np.asarray(places[nearest, np.arange(len(nearest)), 1:])


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
            random_steps=steps // 8,
            num_particles=num_particles,
            hidden=128,
            final_learning_rate=0.1,
            actor_period=2,
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

    return propose, {"train_s": result.train_seconds, "tau": run.metadata["tau"]}


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
        policy: Which.
        obstacle: What stands in the way.
        seed: Of training.
        steps: Episodes of training.
        target_entropy: In nat, that the temperature steers to; SAC's default is −3 here.
        initial_tau: Temperature at the start, 1 by default in SAC, too.
        episodes: Of every test.
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
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")
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
        front.set_xlabel(f"16 draws; of all draws {record['good_draws']:.1%} pass")
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
            cell.set_xlabel(f"{test}: {record[test]:.0%} succeed")
        cells[0].set_ylabel("away from the base, m")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
