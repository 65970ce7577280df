"""The task of `two_ways.py` and its geometry: a Panda passes an obstacle by one via-point.

Obstacles block only the tool's point. The reward is minus the seconds that the motion takes, and −2 if it
meets the obstacle.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.sim_envs.tasks.interface import CONTROL_DT_S, TOOL_SCALE_M
from wpg.sim_envs.tasks.reach import TOLERANCE_M, ReachEnv

Obstacle = Literal["wall", "column"]
Array = NDArray[np.floating]

ENV_ID = "TwoWays-v0"
START_M, GOAL_M = np.array([0.34, 0.0, 0.35]), np.array([0.50, 0.0, 0.35])
TRAINED_M = np.array([0.02, 0.05, 0.03])
"""Half widths of training's starts and goals around these places."""
MIDDLE_M = (START_M + GOAL_M) / 2
"""Of the obstacle."""
WINDOW_M, WINDOW_HALF_M = np.array([0.06, 0.05]), 0.03
"""The left window from the middle, along y and z; the right one lies opposite. Both are square."""
WALL_HALF_M = 0.01
"""Half thickness of the wall with the windows."""
COLUMN_RADIUS_M = 0.04
BARRIER_HALF_M = 0.03
"""Half thickness of what closes the way from the column outwards."""
VIA_M = 0.12
"""An action of 1 is a via-point this far from the middle between start and goal."""
PASSED_M = 0.03
"""The tool heads for the goal from this near to the via-point on."""
PERIODS = 60
"""Of 0.05 s, at most."""
CONTACT_COST = 2.0


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
            aim = self.arm.joint_target(scaled, joints, joints)
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
