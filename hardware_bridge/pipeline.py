"""Pipelines from robot state to observation and from action to joint target, for training and robot alike."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wpg.export.errors import ContractError
from wpg.export.interface import ObservationTerm, PolicyInterface, RobotSpec
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.tool_motion import ToolMotion

UNITS = {
    "joint_pos": "rad",
    "joint_vel": "rad/s",
    "joint_torque": "Nm",
    "joint_target": "rad",
    "tool_pos": "m",
    "tool_target": "m",
    "gripper": "m",
    "goal": "m",
}
"""Unit of each source of observation terms; a term that names no unit is not checked."""


class ObservationPipeline:
    """Builds the policy's observation from what a robot can measure.

    Args:
        interface: what the policy was trained to see.

    Raises:
        ContractError: a term has no source on the robot, or another size or unit than its source; or the goal
            has not three coordinates.
    """

    def __init__(self, interface: PolicyInterface) -> None:
        robot = trained_robot(interface)
        self._kinematics = ForwardKinematics(robot.kinematics)
        self._num_joints = len(robot.joints)
        if interface.goal is not None and len(interface.goal.low) != 3:
            raise ContractError(f"goal box: expected 3 coordinates, found {len(interface.goal.low)}")
        self._slices: list[tuple[ObservationTerm, slice, int]] = []
        start = 0
        for term in interface.observation:
            self._check(term)
            self._slices.append((term, slice(start, start + term.size), term.size // term.history))
            start += term.size
        self._obs = np.zeros(start, dtype=np.float32)
        self._fresh = True

    def _check(self, term: ObservationTerm) -> None:
        sizes = {"tool_pos": 3, "tool_target": 3, "gripper": 1, "goal": 3}
        expected = sizes.get(term.source, self._num_joints)
        if term.source == "environment":
            raise ContractError(
                f"observation term {term.name!r} has no source on the robot: "
                "joints, tool, goal and terms from outside are all that the bridge can feed"
            )
        if term.source != "external" and term.size != expected * term.history:
            raise ContractError(
                f"observation term {term.name!r}: expected size {expected * term.history} "
                f"from source {term.source}, found {term.size}"
            )
        unit = UNITS.get(term.source, term.unit)
        if term.unit and term.unit != unit:
            raise ContractError(
                f"observation term {term.name!r}: expected unit {unit} from source {term.source}, "
                f"found {term.unit}"
            )

    def reset(self) -> None:
        """Clear the history; the next observation fills it with its own values."""
        self._fresh = True

    def tool_position(self, state: RobotState) -> Vector:
        """Position of the tool by forward kinematics, (3,) m in the base frame."""
        return self._kinematics.tool_position(state.joint_pos)

    def observe(
        self,
        state: RobotState,
        goal: Vector | None = None,
        external: Mapping[str, Vector] | None = None,
        *,
        target: Vector | None = None,
    ) -> NDArray[np.float32]:
        """Observation vector for one state.

        Args:
            state: measured joints.
            goal: (goal_dim,) m; None for a policy without goals.
            external: values of the terms with source ``external``, by name.
            target: (num_joints,) rad, the joint target until now; at first where the joints stand.

        Returns:
            (obs_dim,), valid until the next call.
        """
        for term, span, width in self._slices:
            value = self._value(term, state, goal, external, target)
            if term.scale != 1.0:
                value = value * term.scale
            if term.clip is not None:
                value = np.clip(value, *term.clip)
            entries = self._obs[span]
            if term.history > 1:
                if self._fresh:
                    entries.reshape(term.history, width)[:] = value
                else:
                    entries[width:] = entries[:-width].copy()
            entries[:width] = value
        self._fresh = False
        return self._obs

    def _value(
        self,
        term: ObservationTerm,
        state: RobotState,
        goal: Vector | None,
        external: Mapping[str, Vector] | None,
        target: Vector | None,
    ) -> Vector:
        match term.source:
            case "joint_pos" | "joint_vel" | "joint_torque":
                value: Vector = getattr(state, term.source)
                return value
            case "tool_pos":
                return self.tool_position(state)
            case "gripper" if state.gripper_m is not None:
                return np.array((state.gripper_m,))
            case "joint_target" | "tool_target" if target is not None:
                return target if term.source == "joint_target" else self._kinematics.tool_position(target)
            case "goal" if goal is not None:
                return goal
            case "external" if external is not None:
                return external[term.name]
        raise ContractError(f"observation term {term.name!r} (source {term.source}) was not fed")


class ActionPipeline:
    """Turns the policy's action into a joint position target inside the robot's limits.

    Args:
        interface: what the policy commands.
        description: the robot.

    Attributes:
        moves_gripper: whether the action's last entry is the opening (m) of the robot's gripper.

    Raises:
        ContractError: the action has another mode, size or unit than a command of this robot.
    """

    def __init__(self, interface: PolicyInterface, description: RobotDescription) -> None:
        action, self._num_joints = interface.action, description.num_joints
        self._mode, self._from_target = action.mode, action.delta_from == "target"
        if self._mode not in ("joint_position", "joint_position_delta", "tool_position_delta"):
            raise ContractError(
                "action mode: expected joint_position, joint_position_delta or tool_position_delta, "
                f"found {self._mode}"
            )
        self._tool: ToolMotion | None = None
        self._size, what = self._num_joints, f"{self._num_joints} joints of {description.name}"
        if action.tool is not None:
            if len(action.tool.posture_rad) != self._num_joints:
                raise ContractError(f"action posture: expected {what}, found {len(action.tool.posture_rad)}")
            self._tool = ToolMotion(description.kinematics(), action.tool)
            self._size, what = 3, f"3 coordinates of the tool of {description.name}"
        self.moves_gripper = moves_gripper(interface, description)
        if action.size != self._size + self.moves_gripper:
            raise ContractError(f"action size: expected {what}, found {action.size}")
        unit = ("rad" if self._tool is None else "m") + ", gripper: m" * self.moves_gripper
        if action.unit != unit:
            raise ContractError(f"action unit: expected {unit!r}, found {action.unit!r}")
        if self.moves_gripper and description.gripper is None:
            raise ContractError(no_gripper(description))
        self._low = description.limits("position_min_rad")
        self._high = description.limits("position_max_rad")

    def joint_target(self, action: NDArray[np.floating], joint_pos: Vector, target: Vector) -> Vector:
        """Where the joints of one arm, or of B, shall go, ([B,] num_joints) rad.

        Args:
            action: ([B,] action_dim) in the units of the contract.
            joint_pos: ([B,] num_joints) rad, as measured.
            target: ([B,] num_joints) rad, the joint target until now.
        """
        wish = np.asarray(action[..., : self._size], dtype=np.float64)
        start = target if self._from_target else joint_pos
        if self._tool is not None:
            wanted = self._tool.joint_target(wish, start)
        else:
            wanted = start + wish if self._mode == "joint_position_delta" else wish
        return np.minimum(np.maximum(wanted, self._low), self._high)  # a third of np.clip's time

    def gripper_opening_m(self, action: NDArray[np.floating]) -> float | None:
        """Target opening of the gripper, m; None if the policy moves none."""
        return float(action[self._size]) if self.moves_gripper else None


def trained_robot(interface: PolicyInterface) -> RobotSpec:
    """The robot that a policy was trained for.

    Raises:
        ContractError: it was trained for none.
    """
    if interface.robot is None:
        raise ContractError("the policy was trained in an environment that stands for no robot")
    return interface.robot


def moves_gripper(interface: PolicyInterface, description: RobotDescription) -> bool:
    """Whether the action has an entry for a gripper, behind those for the joints or the tool."""
    action = interface.action
    return action.size == (description.num_joints if action.tool is None else 3) + 1


def no_gripper(description: RobotDescription) -> str:
    """Error text for a policy that needs a gripper on a robot, or with a driver, that moves none."""
    return f"gripper: the policy needs one, found none that moves on this {description.name}"
