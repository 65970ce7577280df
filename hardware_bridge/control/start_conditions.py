"""Whether a goal may begin: arm, gripper and object must be as they were when training episodes began."""

import numpy as np

from wpg.export.interface import PolicyInterface
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.tool_motion import ToolMotion

TOOL_MARGIN_M = 0.02
"""The tool may stand this far outside its box, because the arm does not reach its targets exactly."""
REST_M, REST_S = 0.005, 0.5
"""An object is at rest when it has moved no further than this distance for this long."""
OPEN_SHARE = 0.9
"""A gripper counts as open from this share of its range on."""
SET_DOWN_M = 0.005
"""The gripper lets go of an object only below this height over the table."""


class StartConditions:
    """The states from which training episodes began, as the contract describes them.

    Arm: every joint is near home, or near the posture of tool control, within the spread that the contract
    gives. The tool is inside its box, if it has one, and as far beside the object as the contract demands.
    Gripper: open, if the policy moves it and its goals are for an object.
    Object: if goals are for one, it lies in the box of the goals, within their tolerance.

    Args:
        interface: what the policy was trained for.
        description: the arm.
        opens: whether the policy moves the gripper.
    """

    def __init__(
        self, interface: PolicyInterface, description: RobotDescription, *, opens: bool = False
    ) -> None:
        goal, tool = interface.goal, interface.action.tool
        self._spread_rad = None if goal is None else goal.start_spread_rad
        self._tool_box = None if tool is None else (np.array(tool.low_m), np.array(tool.high_m))
        self._motion = None if tool is None else ToolMotion(description.kinematics(), tool)
        self._kinematics = ForwardKinematics(description.kinematics())
        self._clearance_m = None if goal is None else goal.start_clearance_m
        self._object_box: tuple[Vector, Vector] | None = None
        self._object = ""
        if goal is not None and goal.object_term is not None:
            self._object = goal.object_term
            self._object_box = np.array(goal.low) - goal.tolerance_m, np.array(goal.high) + goal.tolerance_m
            self._rest_height_m = goal.low[2]
        self._open_m = 0.0
        if opens and self._object_box is not None and description.gripper is not None:
            self._open_m = OPEN_SHARE * description.gripper.opening_max_m
        self._rises = self._object_box is not None or (goal is not None and goal.given)
        self.joint_pos: Vector = (
            description.limits("home_rad") if tool is None else np.array(tool.posture_rad)
        )
        """(num_joints,) rad, where an arm is homed to that must not start from where it stands."""
        self._rest_place = np.full(3, np.inf)
        self._rest_since_s = self._watched_s = 0.0

    def allow(self, state: RobotState, place: Vector) -> bool:
        """Whether a goal may begin from this state.

        Args:
            state: measured state.
            place: (3,) m, position that is compared with goals, of the tool or of an object.
        """
        return self._allow_arm(state, place) and not self.misplaced(place)

    def _allow_arm(self, state: RobotState, place: Vector) -> bool:
        if not self.is_open(state):
            return False
        if (
            self._spread_rad is not None
            and (np.abs(state.joint_pos - self.joint_pos) > self._spread_rad).any()
        ):
            return False
        tool = self._kinematics.tool_position(state.joint_pos)
        if self._clearance_m is not None and np.linalg.norm((tool - place)[:2]) < self._clearance_m:
            return False
        if self._tool_box is None:
            return True
        low, high = self._tool_box
        return bool((tool >= low - TOOL_MARGIN_M).all() and (tool <= high + TOOL_MARGIN_M).all())

    def way_up(self, joint_pos: Vector) -> Vector | None:
        """Joint target (num_joints,) rad that raises the tool; None where it is high enough.

        A tool that is kept in a box over a table rises to the top of the box before the arm goes to its
        start, so that it does not touch what stands on the table.
        """
        if self._motion is None or self._tool_box is None or not self._rises:
            return None
        missing_m = self._tool_box[1][2] - self._kinematics.tool_position(joint_pos)[2]
        if missing_m <= TOOL_MARGIN_M:
            return None
        return self._motion.joint_target(np.array([0.0, 0.0, missing_m]), joint_pos)

    def is_open(self, state: RobotState) -> bool:
        """Whether the gripper is open; True as well if there is none, or if it need not be open."""
        return state.gripper_m is None or state.gripper_m >= self._open_m

    def way_down(self, joint_pos: Vector, place: Vector) -> Vector | None:
        """Joint target (num_joints,) rad that sets down an object which is held at ``place`` (3,) m.

        None if the object stands on the table already or is not at the tool, and for policies without tool
        control or without an object.
        """
        if self._motion is None or self._object_box is None:
            return None
        height_m = place[2] - self._rest_height_m
        away_m = np.linalg.norm(place - self._kinematics.tool_position(joint_pos))
        if height_m <= SET_DOWN_M or away_m > 2.0 * self._rest_height_m:
            return None
        return self._motion.joint_target(np.array([0.0, 0.0, -height_m]), joint_pos)

    def misplaced(self, place: Vector) -> str:
        """Why an object must not stay at ``place`` (3,) m; empty if it may, or if there is no object."""
        if self._object_box is None:
            return ""
        low, high = self._object_box
        if (place >= low).all() and (place <= high).all():
            return ""
        at, first, last = (" ".join(f"{value:.2f}" for value in point) for point in (place, low, high))
        return f"{self._object} is at {at} m, expected from {first} to {last} m"

    def rests(self, place: Vector, now_s: float) -> bool:
        """Whether an object, now at ``place`` (3,) m, is at rest.

        Must be asked at every tick: after a pause the object has to be seen at rest anew.
        """
        unwatched_s, self._watched_s = now_s - self._watched_s, now_s
        if unwatched_s > REST_S or not np.linalg.norm(place - self._rest_place) <= REST_M:
            self._rest_place, self._rest_since_s = place.copy(), now_s
        return now_s - self._rest_since_s >= REST_S
