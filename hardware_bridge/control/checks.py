"""What must hold before torque is enabled: the policy was trained for this robot, and the arm stands well."""

from collections.abc import Sequence

import numpy as np

from wpg.export.errors import ContractError
from wpg.export.interface import PolicyInterface
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.pipeline import ActionPipeline, ObservationPipeline, no_gripper
from wpg.hardware_bridge.robot import Robot, RobotState, RobotStatus, StopMode, stop_modes_of
from wpg.hardware_bridge.sources.source import check_sources


def check_interface(
    interface: PolicyInterface, description: RobotDescription, sources: Sequence[str] = ()
) -> None:
    """The policy fits the robot, and what is fed from outside.

    Args:
        interface: the policy's.
        description: the robot.
        sources: observation terms that are fed from outside.

    Raises:
        ContractError: names what the policy expects and what the robot is.
    """
    check_robot(interface, description)
    check_sources(interface, sources)
    ObservationPipeline(interface)
    ActionPipeline(interface, description)
    if needs_gripper(interface, description) and description.gripper is None:
        raise ContractError(no_gripper(description))
    _check_goal(interface)
    ticks_per_step(interface, description)


def _check_goal(interface: PolicyInterface) -> None:
    """A policy that sees a goal says where goals are."""
    for term in interface.observation:
        if term.source == "goal" and interface.goal is None:
            raise ContractError(
                f"observation term {term.name!r}: expected a goal in the contract, found none"
            )


def needs_gripper(interface: PolicyInterface, description: RobotDescription) -> bool:
    """The policy moves a gripper, or sees how far it is open.

    Raises:
        ContractError: its action is no command of this robot.
    """
    sees = any(term.source == "gripper" for term in interface.observation)
    return sees or ActionPipeline(interface, description).moves_gripper


def check_gripper(interface: PolicyInterface, description: RobotDescription, state: RobotState) -> None:
    """The robot at hand has the gripper that the policy needs: not every driver, or firmware, moves it.

    Raises:
        ContractError: it reports none.
    """
    if state.gripper_m is None and needs_gripper(interface, description):
        raise ContractError(no_gripper(description))


def check_robot(interface: PolicyInterface, description: RobotDescription) -> None:
    """The policy was trained for this robot.

    Raises:
        ContractError: names what the policy expects and what the robot is.
    """
    spec = interface.robot
    if spec is None:
        raise ContractError("the policy was trained in an environment that stands for no robot")
    own = description.robot_spec()
    if spec.name != own.name:
        raise ContractError(f"robot: the policy was trained for {spec.name}, found {own.name}")
    expected, found = ([joint.name for joint in robot.joints] for robot in (spec, own))
    if expected != found:
        raise ContractError(
            f"joints: the policy expects {', '.join(expected)} in this order, found {', '.join(found)}"
        )
    for theirs, ours in zip(spec.joints, own.joints, strict=True):
        if theirs != ours:
            raise ContractError(
                f"joint {ours.name}: the policy expects zero {theirs.zero_rad} rad and sign {theirs.sign}, "
                f"found zero {ours.zero_rad} rad and sign {ours.sign}"
            )
    if spec.kinematics != own.kinematics:
        home = description.limits("home_rad")
        tools = (ForwardKinematics(chain).tool_position(home) for chain in (spec.kinematics, own.kinematics))
        theirs_m, ours_m = (np.round(tool, 6).tolist() for tool in tools)
        raise ContractError(
            f"kinematics: the policy was trained on another chain of links (tool at home: {theirs_m} m, "
            f"this robot's: {ours_m} m)"
        )


def ticks_per_step(interface: PolicyInterface, description: RobotDescription) -> int:
    """Servo periods in a policy period.

    Raises:
        ContractError: it is no whole number.
    """
    ratio = interface.control_dt_s * description.servo_rate_hz
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6:
        raise ContractError(
            f"control_dt: the policy's {interface.control_dt_s} s is no multiple of the servo period "
            f"{description.servo_dt_s} s"
        )
    return round(ratio)


def check_stop(robot: Robot, mode: StopMode) -> None:
    """The robot can be left in this mode.

    Raises:
        BridgeError: it cannot; names those that it can do.
    """
    modes = stop_modes_of(robot)
    if mode not in modes:
        can = " or ".join(known.name.lower() for known in sorted(modes))
        raise BridgeError(f"stop: this robot can {can}, not {mode.name.lower()}")


def check_stance(state: RobotState, description: RobotDescription) -> None:
    """The arm may be armed where it stands.

    A position outside the limits by less than half a servo period at full speed is let pass: the first
    command brings it back.

    Raises:
        BridgeError: the device reports a fault, or a joint stands outside its limits.
    """
    if state.status is RobotStatus.FAULT:
        fault = state.fault or "clear it at the robot before running a policy"
        raise BridgeError(f"the robot reports a fault: {fault}")
    if not np.isfinite(state.joint_pos).all():
        raise BridgeError(f"joint positions are not finite: {state.joint_pos.tolist()}")
    margin = 0.5 * description.servo_dt_s * description.limits("velocity_max_rad_s")
    low = description.limits("position_min_rad") - margin
    high = description.limits("position_max_rad") + margin
    for index in np.flatnonzero((state.joint_pos < low) | (state.joint_pos > high)):
        joint = description.joints[index]
        raise BridgeError(
            f"joint {joint.name} is at {state.joint_pos[index]:.4f} rad, expected "
            f"{joint.position_min_rad} to {joint.position_max_rad}: move it back by hand"
        )
