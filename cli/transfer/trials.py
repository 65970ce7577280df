"""Trials of a policy in a simulator or on a robot, in the same form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.cli.acting import open_task
from wpg.cli.observations import ContractObservations
from wpg.cli.options import CommandError
from wpg.controllers.experience.environment import make_env
from wpg.export.artifact import Artifact
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.goals import GoalResult
from wpg.hardware_bridge.description import RobotSource
from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.pipeline import ActionPipeline
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.run_log.reader import TIME_ROUNDING_S, RunRecording
from wpg.sim_envs.effects import Effects
from wpg.sim_envs.registration import task_of
from wpg.sim_envs.tasks.goal_env import GoalEnv
from wpg.sim_envs.tasks.interface import term_slice

MAX_GAP_S = 0.2
"""Longest gap between two commands, or two states, of a trial that can be compared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One goal, tried once, in T policy steps and N servo periods."""

    goal_m: Vector
    """(3,)."""
    success: bool
    total: float
    """Return."""
    error_m: float
    """Distance from the goal after the last step."""
    obs: NDArray[np.float32]
    """(T, obs_dim), the policy's observations."""
    joint_pos_rad: Vector
    """(T + 1, num_joints), measured at every step and after the last."""
    achieved_m: Vector
    """(T + 1, 3), position of what must reach the goal."""
    steps: NDArray[np.int64]
    """(T + 1,) servo period in which each step began, and the number of periods."""
    command_pos_rad: Vector
    """(N, num_joints) setpoints."""
    command_vel_rad_s: Vector
    """(N, num_joints)."""
    gripper_m: Vector | None = None
    """(N,), commanded opening of the gripper."""


class Simulator:
    """An environment in which an artifact is tried.

    Args:
        env_id: Gymnasium id of one of wpg's environments.
        artifact: the policy.
        robot: name, file or description of the robot; by default the policy's.
        effects: how the arm differs from its model.

    Raises:
        CommandError: the environment has no simulated arm, or another task's observations.
        ContractError: the policy was trained for another robot.
    """

    def __init__(
        self,
        env_id: str,
        artifact: Artifact,
        *,
        robot: RobotSource | None = None,
        effects: Effects | Path | None = None,
    ) -> None:
        self.env_id = env_id
        interface = artifact.contract.interface
        if interface.robot is None:
            raise CommandError(f"{artifact.path}: was trained in an environment that stands for no robot")
        if task_of(env_id) is None:
            make_env(env_id).close()  # raises an error that suggests a similar id
            raise CommandError(f"{env_id}: expected an environment of wpg with an arm; `wpg list` shows them")
        given = {} if robot is None else {"robot": robot}
        self._env = open_task(artifact.path, env_id, interface, effects=effects, **given)
        assert isinstance(self._env.unwrapped, GoalEnv)
        self.arm = self._env.unwrapped
        try:
            self._observe = ContractObservations(self._env, interface)
        except CommandError:
            self.close()
            raise
        self._action = interface.action
        self._joints = term_slice(self.arm.interface, "joint_pos")
        self._grips = ActionPipeline(interface, self.arm.robot.description).moves_gripper

    def run(
        self,
        policy: SampledPolicy,
        seed: int,
        options: dict[str, Any] | None = None,
        *,
        as_measured: bool = False,
    ) -> Trial:
        """One episode.

        Args:
            policy: acts.
            seed: of the episode.
            options: as :meth:`GoalEnv.reset` takes them.
            as_measured: judge success by the sensors, as on a robot, not by the simulator's state.
        """
        raw, info = self._env.reset(seed=seed, options=options)
        policy.reset()
        seen, rows, commands, openings, total, over = [], [raw], [], [], 0.0, False
        while not over:
            seen.append(self._observe.observation(raw))
            action = policy.act(seen[-1]).action.copy()
            raw, reward, terminated, truncated, info = self._env.step(
                np.clip(self._action.normalise(action), -1.0, 1.0)
            )
            rows.append(raw)
            commands.append(self.arm.commands)
            openings.append(action[-1])
            total += float(reward)
            over = terminated or truncated
        ticks = len(commands[0][0])
        achieved = np.array([row["achieved_goal"] for row in rows], np.float64)
        goal = rows[0]["desired_goal"].astype(np.float64)
        error_m = float(np.linalg.norm(achieved[-1] - goal))
        return Trial(
            goal_m=goal,
            success=error_m <= self.arm.tolerance_m if as_measured else bool(info["is_success"]),
            total=total,
            error_m=error_m,
            obs=np.array(seen),
            joint_pos_rad=np.array([row["observation"][self._joints] for row in rows], np.float64),
            achieved_m=achieved,
            steps=ticks * np.arange(len(rows)),
            command_pos_rad=np.concatenate([pos for pos, _ in commands]),
            command_vel_rad_s=np.concatenate([vel for _, vel in commands]),
            gripper_m=np.repeat(openings, ticks) if self._grips else None,
        )

    def replay(self, trial: Trial, seed: int, options: dict[str, Any] | None = None) -> Vector:
        """Joint positions (N + 1, num_joints) rad of the arm under another trial's commands."""
        self._env.reset(seed=seed, options=options)
        robot = self.arm.robot
        rows = [robot.read().joint_pos]
        for tick in range(len(trial.command_pos_rad)):
            now = slice(tick, tick + 1)
            opening = None if trial.gripper_m is None else float(trial.gripper_m[tick])
            robot.follow(trial.command_pos_rad[now], trial.command_vel_rad_s[now], opening)
            rows.append(robot.read().joint_pos)
        return np.array(rows)

    def close(self) -> None:
        """Free the engine."""
        self._env.close()


def logged_trials(
    recording: RunRecording, results: list[GoalResult], artifact: Artifact, simulator: Simulator, name: str
) -> list[Trial]:
    """The trials of a run on a robot.

    Args:
        recording: the run's log.
        results: how its goals ended.
        artifact: the policy that ran; its goals are for the tool.
        simulator: rewards what was achieved.
        name: of the log, for errors.

    Raises:
        LogError: records are missing within a trial.
    """
    robot, goals = artifact.contract.interface.robot, artifact.contract.interface.goal
    assert robot is not None
    assert goals is not None
    kinematics = ForwardKinematics(robot.kinematics)
    dt_s = simulator.arm.robot.description.servo_dt_s
    trials = []
    for result in results:
        during = recording.decision.during(result.start_s, result.end_s)
        moments = np.append(recording.decision.time_s[during], result.end_s)  # (T + 1,)
        if during.sum() != goals.horizon_steps:
            held = f"holds {during.sum()} of {goals.horizon_steps} decisions"
            raise LogError(f"{name}: {held} from {result.start_s:.2f} to {result.end_s:.2f} s")
        grid, commands = _commands(recording, moments, dt_s, name)
        joint_pos = _states(recording, moments, name)
        achieved = np.array([kinematics.tool_position(row) for row in joint_pos])
        goal = np.array(result.goal)
        rewards = simulator.arm.compute_reward(achieved[1:], np.broadcast_to(goal, achieved[1:].shape), {})
        trials.append(
            Trial(
                goal_m=goal,
                success=result.reached,
                total=float(rewards.sum()),
                error_m=result.error_m,
                obs=recording.decision["obs"][during].astype(np.float32),
                joint_pos_rad=joint_pos,
                achieved_m=achieved,
                steps=np.rint((moments - grid[0]) / dt_s).astype(np.int64),
                command_pos_rad=recording.command["joint_pos_rad"][commands],
                command_vel_rad_s=recording.command["joint_vel_rad_s"][commands],
            )
        )
    return trials


def _commands(
    recording: RunRecording, moments: Vector, dt_s: float, name: str
) -> tuple[Vector, NDArray[np.int64]]:
    """Servo periods of a trial, and the command in force in each; a command is in force until the next."""
    times = recording.command.time_s
    first = int(np.searchsorted(times, moments[0] + TIME_ROUNDING_S, "right")) - 1
    last = int(np.searchsorted(times, moments[-1] + TIME_ROUNDING_S, "right")) - 1
    if first < 0 or last <= first:
        raise LogError(f"{name}: no commands from {moments[0]:.2f} to {moments[-1]:.2f} s")
    _refuse_gap(times[first : last + 1], "commands", name)
    count = round((times[last] - times[first]) / dt_s)
    grid = times[first] + dt_s * np.arange(count)
    # Ticks may begin late: a command within half a period of a tick counts as that tick's.
    return grid, np.searchsorted(times, grid + 0.5 * dt_s, "right") - 1


def _states(recording: RunRecording, moments: Vector, name: str) -> Vector:
    """Measured joints at some moments, (M, num_joints) rad."""
    times = recording.state.time_s
    first = max(int(np.searchsorted(times, moments[0] + TIME_ROUNDING_S, "right")) - 1, 0)
    last = int(np.searchsorted(times, moments[-1] + TIME_ROUNDING_S, "right"))
    _refuse_gap(np.r_[times[first:last], moments[-1]], "states", name)
    newest = np.searchsorted(times, moments + TIME_ROUNDING_S, "right") - 1
    rows: Vector = recording.state["joint_pos_rad"][np.maximum(newest, 0)]
    return rows


def _refuse_gap(times: Vector, what: str, name: str) -> None:
    gaps = np.diff(times)
    if gaps.size and gaps.max() > MAX_GAP_S:
        where = times[int(gaps.argmax())]
        raise LogError(f"{name}: no {what} for {gaps.max():.2f} s after {where:.2f} s: the trial has a gap")


def pairing(trial: Trial) -> dict[str, Any]:
    """Options with which :meth:`Simulator.run` begins where this trial began, with its goal."""
    return {"goal_m": trial.goal_m, "joint_pos_rad": trial.joint_pos_rad[0]}


def decode_results(recording: RunRecording, name: str) -> list[GoalResult]:
    """Results of the goals of a logged run.

    Raises:
        LogError: the log does not hold them.
    """
    content = recording.attachments.get("report.json")
    if content is None:
        raise LogError(f"{name}: the log ends before the run: its report is missing")
    try:
        results = msgspec.json.decode(content, type=_Results).goal_results
    except msgspec.MsgspecError as error:
        raise LogError(f"{name}: its report cannot be read: {error}") from error
    if not results:
        raise LogError(f"{name}: no goal was tried in this run")
    return results


class _Results(msgspec.Struct):
    goal_results: list[GoalResult]
