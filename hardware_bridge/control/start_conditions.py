"""Where a goal may begin: the arm stands, and the object lies, as in training."""

import numpy as np

from wpg.export.interface import PolicyInterface
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.tool_motion import ToolMotion

TOOL_MARGIN_M = 0.02
"""A tool that is kept in a box may stand this far outside: the arm is not exact."""
REST_M, REST_S = 0.005, 0.5
"""An object rests when it has not moved further for as long."""
OPEN_SHARE = 0.9
"""Of its range, from where on a gripper is open."""
SET_DOWN_M = 0.005
"""An object is let go of no higher than this."""


class StartConditions:
    """What training began with, as the contract tells it.

    The arm: joints near home, or near the posture of tool control, where the contract says how near; a tool
    that is kept in a box, inside of it, and beside the object where the contract says how far. A gripper that
    the policy moves: open, where goals are for an object. An object that goals are for: in the box of the
    goals, give or take their tolerance.

    Args:
        interface: what the policy was trained for.
        description: the arm.
        opens: the policy moves the gripper.
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
        """(num_joints,) rad, where an arm goes that stands elsewhere."""
        self._rest_place = np.full(3, np.inf)
        self._rest_since_s = self._watched_s = 0.0

    def suits_arm(self, state: RobotState, tool: Vector, place: Vector) -> bool:
        """Whether the arm, with tool and object at ``tool`` and ``place`` (3,) m, may begin from here."""
        if not self.is_open(state):
            return False
        if (
            self._spread_rad is not None
            and (np.abs(state.joint_pos - self.joint_pos) > self._spread_rad).any()
        ):
            return False
        if self._clearance_m is not None and np.linalg.norm((tool - place)[:2]) < self._clearance_m:
            return False
        if self._tool_box is None:
            return True
        low, high = self._tool_box
        return bool((tool >= low - TOOL_MARGIN_M).all() and (tool <= high + TOOL_MARGIN_M).all())

    def way_up(self, joint_pos: Vector) -> Vector | None:
        """Where the joints (num_joints,) rad go for the tool to rise; None where it is high enough.

        A tool that is kept in a box over a table rises to the top of it before it goes to its start, so that
        it leaves what stands on the table where it is.
        """
        if self._motion is None or self._tool_box is None or not self._rises:
            return None
        missing_m = self._tool_box[1][2] - self._kinematics.tool_position(joint_pos)[2]
        if missing_m <= TOOL_MARGIN_M:
            return None
        return self._motion.joint_target(np.array([0.0, 0.0, missing_m]), joint_pos)

    def is_open(self, state: RobotState) -> bool:
        """Whether the gripper is as far open as it is to be; also where there is none that is to be."""
        return state.gripper_m is None or state.gripper_m >= self._open_m

    def way_down(self, joint_pos: Vector, place: Vector) -> Vector | None:
        """Where the joints (num_joints,) rad go to set down an object at ``place`` (3,) m.

        None where it stands already, or is not at the tool, and where tools are kept in no box.
        """
        if self._motion is None or self._object_box is None:
            return None
        height_m = place[2] - self._rest_height_m
        away_m = np.linalg.norm(place - self._kinematics.tool_position(joint_pos))
        if height_m <= SET_DOWN_M or away_m > 2.0 * self._rest_height_m:
            return None
        return self._motion.joint_target(np.array([0.0, 0.0, -height_m]), joint_pos)

    def misplaced(self, place: Vector) -> str:
        """Where an object at ``place`` (3,) m should be; empty where it may stay, or where there is none."""
        if self._object_box is None:
            return ""
        low, high = self._object_box
        if (place >= low).all() and (place <= high).all():
            return ""
        at, first, last = (" ".join(f"{value:.2f}" for value in point) for point in (place, low, high))
        return f"{self._object} is at {at} m, expected from {first} to {last} m"

    def rests(self, place: Vector, now_s: float) -> bool:
        """Whether an object, now at ``place`` (3,) m, lies still. To be asked again and again."""
        unwatched_s, self._watched_s = now_s - self._watched_s, now_s
        if unwatched_s > REST_S or not np.linalg.norm(place - self._rest_place) <= REST_M:
            self._rest_place, self._rest_since_s = place.copy(), now_s
        return now_s - self._rest_since_s >= REST_S
