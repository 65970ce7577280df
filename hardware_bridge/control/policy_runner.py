"""Runs the policy: from measured state to joint target, one policy step at a time, goal after goal."""

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.checks import PolicyPipelines
from wpg.hardware_bridge.control.goals import GoalResult, GoalSequence
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.hardware_bridge.policy import Policy
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.run_log.recorder import Recorder
from wpg.hardware_bridge.sources.source import Feed


class PolicyRunner:
    """Asks the policy where the joints shall go, and judges each goal when its steps are over.

    Args:
        policy: the policy to run.
        pipelines: its observation and action pipelines, checked against the robot.
        goals: where the tool or an object shall go; None for a policy without goals.
        feed: readings of what the robot does not measure.
        recorder: takes every policy step.
    """

    def __init__(
        self,
        policy: Policy,
        pipelines: PolicyPipelines,
        goals: GoalSequence | None,
        feed: Feed,
        *,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._policy = policy
        self._observe, self._act = pipelines.observation, pipelines.action
        goal = policy.interface.goal
        self._object = None if goal is None else goal.object_term
        self._goals = goals
        self._feed = feed
        self._clock = clock
        self._recorder = recorder
        self.policy_time = LatencyHistogram()
        self.spread = 0.0
        """Spread of the particles at the last step, in the action's unit."""
        self.opening_m: float | None = None
        """Gripper opening of the last action; None for a policy that moves no gripper."""

    def reset(self) -> None:
        """Clear the observation history and the policy's memory.

        To be called after something other than the policy has moved the arm.
        """
        self._observe.reset()
        self._policy.reset()

    @property
    def finished(self) -> bool:
        """Whether every goal has been tried; never for a policy without goals."""
        return self._goals is not None and self._goals.finished

    @property
    def results(self) -> list[GoalResult]:
        """Results of the goals that have been tried."""
        return [] if self._goals is None else self._goals.results

    def achieved_pos(self, state: RobotState) -> Vector:
        """Position that is compared with goals, of the tool or of an object, (3,) m in the base frame."""
        return self._place(self._observe.tool_position(state))

    def goal_over(self, state: RobotState, time_s: float) -> bool:
        """Judge the present goal if it has had all its steps; True if so."""
        if self._goals is None or not self._goals.judge(self.achieved_pos(state), time_s):
            return False
        # The policy chooses anew for another goal; the observation history goes on, because the arm does.
        self._policy.reset()
        return True

    def step(self, state: RobotState, target: Vector, time_s: float) -> Vector | None:
        """Where the joints shall go, (num_joints,) rad; None when the policy's action is not finite.

        Args:
            state: measured state.
            target: (num_joints,) rad, the joint target until now.
            time_s: present time of the run.
        """
        tool = self._observe.tool_position(state)
        achieved = self._place(tool)
        goal = None if self._goals is None else self._goals.begin_step(achieved, time_s)
        self._feed.decided()
        obs = self._observe.observe(state, goal, self._feed.values, target=target)
        began_s = self._clock.now()
        decision = self._policy.act(obs)
        policy_s = self._clock.now() - began_s
        self.spread = decision.spread
        self.policy_time.record(policy_s)
        self._recorder.decision(
            time_s=time_s,
            obs=obs,
            decision=decision,
            goal=goal,
            target=target,
            tool=tool,
            achieved=achieved,
            policy_s=policy_s,
        )
        if not np.isfinite(decision.action).all():
            return None
        self.opening_m = self._act.gripper_opening_m(decision.action)
        return self._act.joint_target(decision.action, state.joint_pos, target)

    def _place(self, tool: Vector) -> Vector:
        return tool if self._object is None else self._feed.values[self._object]
