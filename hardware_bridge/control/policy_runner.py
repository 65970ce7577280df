"""One policy step: observation, action, joint target; and the goals it works on."""

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.goals import GoalResult, GoalSequence
from wpg.hardware_bridge.control.start_conditions import StartConditions
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.hardware_bridge.pipeline import ActionPipeline, ObservationPipeline
from wpg.hardware_bridge.policy import Policy
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.run_log.recorder import Recorder
from wpg.hardware_bridge.sources.source import Feed


class PolicyRunner:
    """Asks the policy where the joints shall go.

    Args:
        policy: what decides.
        description: the robot, which the policy has been checked against.
        goals: where the tool, or an object, shall go; None for a policy without goals.
        feed: what the robot does not measure.
    """

    def __init__(
        self,
        policy: Policy,
        description: RobotDescription,
        goals: GoalSequence | None,
        feed: Feed,
        *,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._policy = policy
        goal = policy.interface.goal
        self._object = None if goal is None else goal.object_term
        self._feed = feed
        self._observe = ObservationPipeline(policy.interface)
        self._act = ActionPipeline(policy.interface, description)
        self._start = StartConditions(policy.interface, description, opens=self._act.moves_gripper)
        self._clock = clock
        self._recorder = recorder
        self.goals = goals
        self.policy_time = LatencyHistogram()
        self.spread = 0.0
        """Spread of the particles at the last step, in the action's unit."""
        self.opening_m: float | None = None
        """How far the gripper is to open since the last step; None where the policy moves none."""

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
        """Results of the goals that have been tried."""
        return [] if self.goals is None else self.goals.results

    @property
    def start_pos(self) -> Vector:
        """(num_joints,) rad, where the arm goes that must not start from where it stands."""
        return self._start.joint_pos

    def may_start(self, state: RobotState) -> bool:
        """Whether training has started from stances like this one, with the object where it is."""
        tool = self._observe.tool_position(state)
        return self._start.suits_arm(state, tool, self._place(tool)) and not self.misplaced(state)

    def way_up(self, joint_pos: Vector) -> Vector | None:
        """Where the joints (num_joints,) rad go to leave the table before the arm goes to its start."""
        return self._start.way_up(joint_pos)

    def must_open(self, state: RobotState) -> bool:
        """Whether the gripper is to be opened before a goal may begin."""
        return not self._start.is_open(state)

    def way_down(self, state: RobotState, joint_pos: Vector) -> Vector | None:
        """Where the joints (num_joints,) rad go to set down what the gripper holds; None where nothing is."""
        return self._start.way_down(joint_pos, self._place(self._observe.tool_position(state)))

    def misplaced(self, state: RobotState) -> str:
        """Where the object should be instead of where it is; empty where all is well."""
        return self._start.misplaced(self._place(self._observe.tool_position(state)))

    def object_rests(self, state: RobotState, now_s: float) -> bool:
        """Whether the object lies still. To be asked again and again."""
        return self._start.rests(self._place(self._observe.tool_position(state)), now_s)

    def goal_over(self, state: RobotState, time_s: float) -> bool:
        """Whether the present goal has had its steps; it is judged then."""
        place = self._place(self._observe.tool_position(state))
        if self.goals is None or not self.goals.judge(place, time_s):
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
        place = self._place(tool)
        goal = None if self.goals is None else self.goals.begin_step(place, time_s)
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
            achieved=place,
            policy_s=policy_s,
        )
        if not np.isfinite(decision.action).all():
            return None
        self.opening_m = self._act.gripper_opening_m(decision.action)
        return self._act.joint_target(decision.action, state.joint_pos, target)

    def _place(self, tool: Vector) -> Vector:
        """Position of what is compared with goals, the tool or an object, (3,) m."""
        return tool if self._object is None else self._feed.values[self._object]
