"""Scripted policies solve the tasks on both engines: the tasks can be done, and the frames are right."""

import gymnasium
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.sim_envs.task_interface import term_slice

DOWN = np.array([0.0, 0.0, -1.0])
UP = np.array([0.0, 0.0, 1.0])
LOW = 0.015 * UP
LAG_S = 0.1
"""Of arms on a servo bus."""
EPISODES = 20


class Script:
    """Moves the tool towards a place, pointing down; joints by damped least squares."""

    def __init__(self, env):
        self.interface, self.robot = env.interface, env.robot.description
        self.kinematics = ForwardKinematics(self.interface.robot.kinematics)
        self.moves_tool = self.interface.action.mode == "tool_position_delta"
        self.late = self.interface.action.delta_from == "target"
        self.phase = "approach"

    def __call__(self, obs):
        row = np.concatenate([obs["observation"], obs["desired_goal"]]).astype(np.float64)
        joint_pos, tool = (row[term_slice(self.interface, name)] for name in ("joint_pos", "tool_pos"))
        if self.late:
            joint_pos = row[term_slice(self.interface, "joint_target")][: len(joint_pos)]
        thing, goal = (obs[name].astype(np.float64) for name in ("achieved_goal", "desired_goal"))
        return self.act(row, joint_pos, tool, thing, goal)

    def towards(self, joint_pos, place, longest_m, across=None):
        """One step, of damped least squares on tool position and direction if joints are moved.

        ``across`` is where the fingers' line, the tool's y axis, shall point as near as it can.
        """
        if self.moves_tool:
            way = place - self.kinematics.tool_position(joint_pos)
            way *= min(1.0, longest_m / (np.linalg.norm(way) + 1e-9))
            return np.clip(way / self.interface.action.scale[:3], -1.0, 1.0).astype(np.float32)

        def task(joint_pos):
            pose = self.kinematics.tool_pose(joint_pos)
            turn = [] if across is None else [0.1 * (pose[:3, 0] @ across)]
            return np.concatenate([pose[:3, 3], 0.3 * pose[:3, 2], turn])

        now = task(joint_pos)
        jacobian = np.stack([(task(joint_pos + nudge) - now) / 1e-5 for nudge in 1e-5 * np.eye(7)], axis=1)
        error = np.concatenate([place, 0.3 * DOWN, [] if across is None else [0.0]]) - now
        error[6:] = np.clip(error[6:], -0.01, 0.01)
        error[:3] *= min(1.0, longest_m / (np.linalg.norm(error[:3]) + 1e-9))
        delta = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(len(now)), error)
        return (delta / max(0.1, np.abs(delta).max())).astype(np.float32)


class Pusher(Script):
    """Above the cube's far side, down, push along the line to the goal, up."""

    def act(self, obs, joint_pos, tool, cube, goal):
        if self.late:  # where the cube will be when the arm answers
            cube = cube + LAG_S * obs[term_slice(self.interface, "object_vel")] * [1, 1, 0]
        way = goal - cube
        distance = np.linalg.norm(way)
        way /= distance + 1e-9
        place, longest_m = self.place(tool, cube, way, distance)
        return self.towards(joint_pos, place, longest_m)

    def place(self, tool, cube, way, distance):
        """Where the tool shall go, and how far in one step."""
        half, tolerance = self.interface.goal.low[2], self.interface.goal.tolerance_m
        radius = self.robot.simulation.tool_radius_m
        behind = (cube - (radius + 1.75 * half + 0.01) * way) * [1, 1, 0] + LOW
        if self.phase == "approach" and np.linalg.norm(tool - behind - 3 * half * UP) < half:
            self.phase = "lower"
        if self.phase == "lower" and np.linalg.norm(tool - behind) < half:
            self.phase = "push"
        along = (tool - cube) @ way
        side = (tool - cube - along * way) * [1, 1, 0]
        near = distance < 0.8 * tolerance
        if self.phase == "push" and near and (distance < 0.3 * tolerance or along > -half):
            self.phase = "leave"
        elif self.phase == "push" and not near and (np.linalg.norm(side) > 2 * half or along > -half / 2):
            self.phase = "approach"
        if self.phase == "leave" and not near and tool[2] > 2.5 * half:
            self.phase = "approach"
        beside = np.linalg.norm((tool - cube)[:2]) < radius + 2.5 * half
        match self.phase:
            case "approach" if beside and tool[2] < 2.5 * half:  # or it would drag the cube along
                return tool + 0.05 * UP, 0.08
            case "approach":
                return behind + 3 * half * UP, 0.08
            case "lower":
                return behind, 0.08
            case "push":
                return (cube - 3.0 * side) * [1, 1, 0] + LOW, min(
                    0.03, 0.25 * half + (0.3 if self.late else 0.2) * distance
                )
        return tool + (0.05 * UP if tool[2] < 4 * half else 0.0), 0.08


class Picker(Script):
    """Above the cube, turned to its faces, down, close, to the goal."""

    def act(self, obs, joint_pos, tool, cube, goal):
        face = obs[term_slice(self.interface, "object_rot6d")][:3] * [1, 1, 0]
        finger_line = self.kinematics.tool_pose(joint_pos)[:3, 1]
        side = np.cross(UP, face)
        across = max(face, side, key=lambda line: abs(finger_line @ line))
        across = across / np.linalg.norm(across)
        above, off = cube + 0.06 * UP, np.linalg.norm((tool - cube)[:2])
        opening = 1.0
        place, longest_m = above, 0.08
        turned = self.moves_tool or abs(self.kinematics.tool_pose(joint_pos)[:3, 0] @ across) < 0.1
        if self.phase == "approach" and off < 0.01 and turned:
            self.phase = "lower"
        if self.phase == "lower":
            place, longest_m = cube, 0.04
            if np.linalg.norm(tool - cube) < 0.008:
                self.phase, self.left = "close", 10
        if self.phase == "close":
            place, opening = cube, -1.0
            self.left -= 1
            if not self.left:
                self.phase = "carry"
        if self.phase == "carry":
            place, opening, longest_m = tool + goal - cube, -1.0, 0.05
            if np.linalg.norm(tool - cube) > 0.04:
                self.phase = "approach"
        turn = None if self.phase == "carry" else across
        return np.append(self.towards(joint_pos, place, longest_m, turn), np.float32(opening))


class Inserter(Script):
    """Above the hole, then down."""

    def act(self, obs, joint_pos, tool, _, goal):
        off = np.linalg.norm((tool - goal)[:2])
        if off < 0.001:
            self.phase = "lower"
        if self.phase == "lower":
            return self.towards(joint_pos, goal, 0.02)
        return self.towards(joint_pos, goal + 0.05 * UP, 0.08)


def successes(env, script, episodes):
    """Of each episode, whether the script solves it."""
    found = []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        policy = script(env.unwrapped)
        for _ in range(env.spec.max_episode_steps):
            obs, _, _, _, info = env.step(policy(obs))
        found.append(info["is_success"])
    env.close()
    return found


@pytest.mark.parametrize("engine", ["", "Bullet"])
@pytest.mark.parametrize("control", ["joints", "tool"])
@pytest.mark.parametrize(
    ("task", "script"),
    [("Push", Pusher), ("PickAndPlace", Picker), ("Insert", Inserter)],
    ids=["push", "pick", "insert"],
)
def test_scripted_policy_solves_it(task, script, control, engine):
    found = successes(gymnasium.make(f"wpg/Panda{task}{engine}-v0", control=control), script, EPISODES)
    assert np.mean(found) >= 0.95, found


@pytest.mark.parametrize("engine", ["", "Bullet"])
@pytest.mark.parametrize(
    ("task", "script", "robot"),
    [
        *(("Push", Pusher, robot) for robot in ("iiwa14", "xarm6", "so101", "omx")),
        *(("Insert", Inserter, robot) for robot in ("iiwa14", "xarm6")),
    ],
)
def test_other_arms_do_it_too(task, script, robot, engine):
    env = gymnasium.make(f"wpg/Panda{task}{engine}-v0", robot=robot, control="tool")
    found = successes(env, script, EPISODES)
    assert np.mean(found) >= 0.95, found
