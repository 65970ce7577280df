"""Scripted policies solve the tasks on both engines: the tasks can be done, and the frames are right."""

import gymnasium
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics

DOWN = np.array([0.0, 0.0, -1.0])
UP = np.array([0.0, 0.0, 1.0])
EPISODES = 20


class Script:
    """Moves the tool towards a place, pointing down; joints by damped least squares."""

    def __init__(self, interface):
        self.kinematics = ForwardKinematics(interface.robot.kinematics)
        self.moves_tool = interface.action.mode == "tool_position_delta"
        self.phase = "approach"

    def __call__(self, obs):
        joint_pos = obs["observation"][:7].astype(np.float64)
        tool, thing, goal = (
            values.astype(np.float64)
            for values in (obs["observation"][14:17], obs["achieved_goal"], obs["desired_goal"])
        )
        return self.act(obs["observation"], joint_pos, tool, thing, goal)

    def towards(self, joint_pos, place, longest_m, across=None):
        """One step, of damped least squares on tool position and direction if joints are moved.

        ``across`` is where the fingers' line, the tool's y axis, shall point as near as it can.
        """
        if self.moves_tool:
            way = place - self.kinematics.tool_position(joint_pos)
            way *= min(1.0, longest_m / (np.linalg.norm(way) + 1e-9))
            return np.clip(way / 0.05, -1.0, 1.0).astype(np.float32)

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


class Picker(Script):
    """Above the cube, turned to its faces, down, close, to the goal."""

    def act(self, obs, joint_pos, tool, cube, goal):
        face = obs[21:24].astype(np.float64) * [1, 1, 0]
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


@pytest.mark.parametrize("engine", ["", "Bullet"])
@pytest.mark.parametrize("control", ["joints", "tool"])
@pytest.mark.parametrize(
    ("task", "script"),
    [("Push", Pusher), ("PickAndPlace", Picker), ("Insert", Inserter)],
    ids=["push", "pick", "insert"],
)
def test_scripted_policy_solves_it(task, script, control, engine):
    env = gymnasium.make(f"wpg/Panda{task}{engine}-v0", control=control)
    successes = []
    for seed in range(EPISODES):
        obs, _ = env.reset(seed=seed)
        policy = script(env.unwrapped.interface)
        for _ in range(env.spec.max_episode_steps):
            obs, _, _, _, info = env.step(policy(obs))
        successes.append(info["is_success"])
    env.close()
    assert np.mean(successes) >= 0.95, successes
