"""Checks before torque is enabled: the policy fits the robot, and the arm stands where it may move."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wpg.export.errors import ContractError
from wpg.export.interface import PolicyInterface
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.pipeline import (
    ActionPipeline,
    ObservationPipeline,
    moves_gripper,
    no_gripper,
    trained_robot,
)
from wpg.hardware_bridge.robot import Robot, RobotState, RobotStatus, StopMode, stop_modes_of
from wpg.hardware_bridge.sources.source import check_sources


class PolicyPipelines(NamedTuple):
    """How a policy is run on a robot that it fits."""

    observation: ObservationPipeline
    action: ActionPipeline
    ticks_per_step: int
    """Servo periods in a policy period."""


def check_interface(
    interface: PolicyInterface, description: RobotDescription, sources: Sequence[str] = ()
) -> PolicyPipelines:
    """Check that the policy fits the robot and the sources of what the robot does not measure.

    Args:
        interface: what the policy was trained for.
        description: the robot.
        sources: observation terms that are fed from outside the robot.

    Raises:
        ContractError: they do not fit; names what the policy expects and what was found.
    """
    check_robot(interface, description)
    check_sources(interface, sources)
    observation, action = ObservationPipeline(interface), ActionPipeline(interface, description)
    if _needs_gripper(interface, description) and description.gripper is None:
        raise ContractError(no_gripper(description))
    _check_goal(interface)
    return PolicyPipelines(observation, action, _ticks_per_step(interface, description))


def _check_goal(interface: PolicyInterface) -> None:
    """Check that a policy which observes a goal says where goals are."""
    for term in interface.observation:
        if term.source == "goal" and interface.goal is None:
            raise ContractError(
                f"observation term {term.name!r}: expected a goal in the contract, found none"
            )


def _needs_gripper(interface: PolicyInterface, description: RobotDescription) -> bool:
    """Whether the policy moves a gripper or observes its opening."""
    sees = any(term.source == "gripper" for term in interface.observation)
    return sees or moves_gripper(interface, description)


def check_gripper(interface: PolicyInterface, description: RobotDescription, state: RobotState) -> None:
    """Check that the connected robot has the gripper that the policy needs.

    Not every driver or firmware moves the gripper that a description has.

    Raises:
        ContractError: the robot reports none.
    """
    if state.gripper_m is None and _needs_gripper(interface, description):
        raise ContractError(no_gripper(description))


def check_robot(interface: PolicyInterface, description: RobotDescription) -> None:
    """Check that the policy was trained for this robot.

    Raises:
        ContractError: names what the policy expects and what the robot is.
    """
    spec = trained_robot(interface)
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


def _ticks_per_step(interface: PolicyInterface, description: RobotDescription) -> int:
    """Servo periods in a policy period.

    Raises:
        ContractError: the number is not whole.
    """
    ratio = interface.control_dt_s * description.servo_rate_hz
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6:
        raise ContractError(
            f"control_dt: the policy's {interface.control_dt_s} s is no multiple of the servo period "
            f"{description.servo_dt_s} s"
        )
    return round(ratio)


def check_stop(robot: Robot, mode: StopMode) -> None:
    """Check that the robot can stop in this mode.

    Raises:
        BridgeError: it cannot; names the modes that it can stop in.
    """
    modes = stop_modes_of(robot)
    if mode not in modes:
        can = " or ".join(known.name.lower() for known in sorted(modes))
        raise BridgeError(f"stop: this robot can {can}, not {mode.name.lower()}")


def check_stance(state: RobotState, description: RobotDescription) -> None:
    """Check that the arm may be armed where it stands.

    A joint may be outside its limits by half a servo period at full speed: the first command brings it back.

    Raises:
        BridgeError: the device reports a fault, a position is not finite, or a joint is outside its limits.
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
