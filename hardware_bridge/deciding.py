"""One policy step: observation, action, joint target; and the goals it works on."""

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.goals import GoalResult, GoalSequence
from wpg.hardware_bridge.pipeline import ActionPipeline, ObservationPipeline
from wpg.hardware_bridge.policy import Policy
from wpg.hardware_bridge.recorder import Recorder
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.timing import LatencyHistogram


class Decider:
    """Asks the policy where the joints shall go.

    Args:
        policy: what decides.
        description: the robot, which the policy has been checked against.
        goals: where the tool shall go; None for a policy without goals.
    """

    def __init__(
        self,
        policy: Policy,
        description: RobotDescription,
        goals: GoalSequence | None,
        *,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._policy = policy
        self._home = description.limits("home_rad")
        goal = policy.interface.goal
        self._start_spread_rad = None if goal is None else goal.start_spread_rad
        self._observe = ObservationPipeline(policy.interface)
        self._act = ActionPipeline(policy.interface, description)
        self._clock = clock
        self._recorder = recorder
        self.goals = goals
        self.policy_time = LatencyHistogram()
        self.spread = 0.0
        """Of the particles at the last step, in the action's unit."""

    def reset(self) -> None:
        """The policy does not have the arm any more: what it saw says nothing about what comes."""
        self._observe.reset()
        self._policy.reset()

    @property
    def finished(self) -> bool:
        """Every goal has been tried."""
        return self.goals is not None and self.goals.finished

    @property
    def results(self) -> list[GoalResult]:
        """Of the goals that have been tried."""
        return [] if self.goals is None else self.goals.results

    def may_start(self, state: RobotState) -> bool:
        """Whether training has started from stances like this one."""
        spread_rad = self._start_spread_rad
        return spread_rad is None or bool((np.abs(state.joint_pos - self._home) <= spread_rad).all())

    def goal_over(self, state: RobotState, time_s: float) -> bool:
        """Whether the present goal has had its steps; it is judged then, and the next one drawn."""
        if self.goals is None or not self.goals.judge(self._observe.tool_position(state), time_s):
            return False
        # What was right for the last goal is no reason to go on with it; what is under way stays seen.
        self._policy.reset()
        return True

    def step(self, state: RobotState, target: Vector, time_s: float) -> Vector | None:
        """Where the joints shall go, (num_joints,) rad; None when the policy's action is not finite.

        Args:
            state: as measured.
            target: (num_joints,) rad, where they were told to go before.
            time_s: now.
        """
        tool = self._observe.tool_position(state)
        if self.goals is not None:
            self.goals.begin_step(time_s)
        goal = None if self.goals is None else self.goals.current
        obs = self._observe.observe(state, goal, target=target)
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
            policy_s=policy_s,
        )
        if not np.isfinite(decision.action).all():
            return None
        return self._act.joint_target(decision.action, state, target)
