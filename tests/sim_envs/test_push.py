import gymnasium
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.sim_envs.push import AREA_HIGH_M, AREA_LOW_M, CUBE, SHORTEST_WAY_M

DOWN = np.array([0.0, 0.0, -1.0])
UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture(params=["wpg/PandaPush-v0", "wpg/PandaPushBullet-v0"])
def env(request):
    env = gymnasium.make(request.param)
    yield env
    env.close()


class Pusher:
    """A scripted policy: above the cube's far side, down, push along the line to the goal, up."""

    def __init__(self, interface):
        self.kinematics = ForwardKinematics(interface.robot.kinematics)
        self.phase = "approach"

    def __call__(self, obs):
        joint_pos = obs["observation"][:7].astype(np.float64)
        tool, cube, goal = (
            values.astype(np.float64)
            for values in (obs["observation"][14:17], obs["achieved_goal"], obs["desired_goal"])
        )
        way = goal - cube
        distance = np.linalg.norm(way)
        way /= distance + 1e-9
        place, longest_m = self.place(tool, cube, way, distance)
        return self.towards(joint_pos, place, longest_m)

    def place(self, tool, cube, way, distance):
        """Where the tool shall go, and how far in one step."""
        behind = cube - 0.07 * way
        if self.phase == "approach" and np.linalg.norm(tool - behind - 0.08 * UP) < 0.02:
            self.phase = "lower"
        if self.phase == "lower" and np.linalg.norm(tool - behind) < 0.02:
            self.phase = "push"
        along = (tool - cube) @ way
        side = (tool - cube - along * way) * [1, 1, 0]
        if self.phase == "push" and distance < 0.04 and (distance < 0.015 or along > -0.02):
            self.phase = "leave"
        elif self.phase == "push" and distance > 0.04 and (np.linalg.norm(side) > 0.04 or along > -0.01):
            self.phase = "approach"
        if self.phase == "leave" and distance > 0.04 and tool[2] > 0.07:
            self.phase = "approach"
        match self.phase:
            case "approach":
                return behind + 0.08 * UP, 0.08
            case "lower":
                return behind, 0.08
            case "push":
                return (cube - 3.0 * side) * [1, 1, 0] + 0.02 * UP, min(0.04, 0.005 + 0.3 * distance)
        return tool + (0.05 * UP if tool[2] < 0.1 else 0.0), 0.08

    def towards(self, joint_pos, place, longest_m):
        """One step of damped least squares on tool position and direction."""

        def task(joint_pos):
            pose = self.kinematics.tool_pose(joint_pos)
            return np.concatenate([pose[:3, 3], 0.3 * pose[:3, 2]])

        now = task(joint_pos)
        jacobian = np.stack([(task(joint_pos + nudge) - now) / 1e-5 for nudge in 1e-5 * np.eye(7)], axis=1)
        error = np.concatenate([place, 0.3 * DOWN]) - now
        error[:3] *= min(1.0, longest_m / (np.linalg.norm(error[:3]) + 1e-9))
        delta = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
        return (delta / max(0.1, np.abs(delta).max())).astype(np.float32)


def test_scripted_pushing_solves_it(env):
    successes = []
    for seed in range(40):
        obs, _ = env.reset(seed=seed)
        pusher = Pusher(env.unwrapped.interface)
        for _ in range(env.spec.max_episode_steps):
            obs, _, _, _, info = env.step(pusher(obs))
        successes.append(info["is_success"])
    assert np.mean(successes) >= 0.95


def test_cube_and_goal_lie_apart_on_the_table(env):
    for seed in range(50):
        obs, info = env.reset(seed=seed)
        for place in (obs["achieved_goal"], obs["desired_goal"]):
            assert (place[:2] >= np.float32(AREA_LOW_M)).all()
            assert (place[:2] <= np.float32(AREA_HIGH_M)).all()
            assert place[2] == pytest.approx(CUBE.half_size_m)
        assert np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"]) > SHORTEST_WAY_M - 1e-6
        assert not info["is_success"]


def test_cube_stays_put_when_left_alone(env):
    obs, _ = env.reset(seed=0)
    for _ in range(40):
        later, *_ = env.step(np.zeros(7, np.float32))
    np.testing.assert_allclose(later["observation"][17:], obs["observation"][17:], atol=1e-3)


def test_observation_has_the_cubes_rotation(env):
    obs, _ = env.reset(seed=3)
    first, second = obs["observation"][20:26].reshape(2, 3)
    np.testing.assert_allclose([first @ first, second @ second, first @ second], [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(np.cross(first, second), UP, atol=1e-6)
