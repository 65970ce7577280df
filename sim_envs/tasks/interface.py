"""Observation and action terms of the tasks, and their Gymnasium spaces."""

import math
from typing import Any, Literal

import msgspec
import numpy as np
from gymnasium import spaces

from wpg.export.interface import ActionTerm, ObservationTerm, PolicyInterface, ToolControl
from wpg.hardware_bridge.description import GripperDescription, RobotDescription
from wpg.hardware_bridge.robot import Vector

ControlName = Literal["joints", "tool"]

CONTROL_DT_S = 0.05
ACTION_SCALE_RAD = 0.1
TOOL_SCALE_M = 0.05
FROM_TARGET_SCALE = 0.6
"""Factor on the action's scale where actions are relative to the last target. Such actions add up, whereas an
action relative to the measured position moves the arm by little more than half of its value."""


def arm_terms(num_joints: int) -> tuple[ObservationTerm, ...]:
    """Observation terms of the arm, the same in every task."""
    return (
        ObservationTerm(name="joint_pos", size=num_joints, source="joint_pos", unit="rad"),
        ObservationTerm(name="joint_vel", size=num_joints, source="joint_vel", unit="rad/s"),
        ObservationTerm(name="tool_pos", size=3, source="tool_pos", unit="m"),
    )


GOAL_TERM = ObservationTerm(name="goal", size=3, source="goal", unit="m")


def with_target_history(interface: PolicyInterface, target_history: int) -> PolicyInterface:
    """Adapt an interface to an arm with delays: show the last targets, and count actions from them.

    Without the targets that have not taken effect yet, the task would not be Markov. The tool's position at
    the last target is added so that the policy need not learn the kinematics of the targets.

    Args:
        interface: interface for an arm without delays.
        target_history: number of last joint targets that the policy sees; 0 changes nothing.
    """
    if not target_history:
        return interface
    assert interface.robot is not None
    *terms, goal = interface.observation
    joints = ObservationTerm(
        name="joint_target",
        size=target_history * len(interface.robot.joints),
        source="joint_target",
        unit="rad",
        history=target_history,
    )
    tool = ObservationTerm(name="tool_target", size=3, source="tool_target", unit="m")
    moved = 3 if interface.action.moves_tool else len(interface.robot.joints)
    scale = np.array(interface.action.scale)
    scale[:moved] *= FROM_TARGET_SCALE
    return msgspec.structs.replace(
        interface,
        observation=(*terms, joints, tool, goal),
        action=msgspec.structs.replace(
            interface.action, delta_from="target", scale=tuple(scale.round(9).tolist())
        ),
    )


def default_target_history(interface: PolicyInterface, description: RobotDescription) -> int:
    """Number of last targets that may not have taken effect yet in the measurements.

    It follows from the longest delay of the training. For an arm on a servo bus it is at least one: such an
    arm is sent no velocities, so it lags behind its target in motion, and at rest it hangs below it.
    """
    delayed = math.ceil(round(interface.trained_delay_s[1] / interface.control_dt_s, 9))
    return max(delayed, int(description.bus is not None))


def tool_control(
    description: RobotDescription, posture_rad: Vector, low_m: Vector, high_m: Vector
) -> ToolControl:
    """Tool control that keeps the tool's direction and stays in a box.

    Args:
        description: the robot.
        posture_rad: rest posture, (num_joints,); the tool keeps the direction that it has there.
        low_m: lowest corner of the box, (3,).
        high_m: highest corner of the box, (3,).
    """
    (x, y, z), (to_x, to_y, to_z) = (np.round(corner, 3).tolist() for corner in (low_m, high_m))
    return ToolControl(
        axis=description.approach,
        posture_rad=tuple(posture_rad.tolist()),
        low_m=(x, y, z),
        high_m=(to_x, to_y, to_z),
    )


def arm_action(
    control: ControlName, tool: ToolControl, *, joint_scale_rad: float = ACTION_SCALE_RAD
) -> ActionTerm:
    """The action term of a task: a displacement of each joint or of the tool.

    Args:
        control: ``joints`` moves each joint by at most ``joint_scale_rad``; ``tool`` moves the tool by at
            most 5 cm along each axis of the base.
        tool: how ``tool`` moves the arm.
        joint_scale_rad: largest displacement of a joint in one step.

    Raises:
        ValueError: the control is unknown.
    """
    match control:
        case "joints":
            size, scale, unit = len(tool.posture_rad), joint_scale_rad, "rad"
        case "tool":
            size, scale, unit = 3, TOOL_SCALE_M, "m"
        case _:
            raise ValueError(f"unknown control {control!r}: expected joints or tool")
    return ActionTerm(
        mode="tool_position_delta" if control == "tool" else "joint_position_delta",
        size=size,
        unit=unit,
        scale=(scale,) * size,
        offset=(0.0,) * size,
        tool=tool if control == "tool" else None,
    )


def with_gripper(action: ActionTerm, gripper: GripperDescription) -> ActionTerm:
    """Append the gripper's opening to an action term as its last entry."""
    half_m = gripper.opening_max_m / 2.0
    return msgspec.structs.replace(
        action,
        size=action.size + 1,
        unit=f"{action.unit}, gripper: m",
        scale=(*action.scale, half_m),
        offset=(*action.offset, half_m),
    )


def task_kwargs(interface: PolicyInterface) -> dict[str, Any]:
    """Keyword arguments that make a task with the control and target history of the policy."""
    seen = {term.source: term.history for term in interface.observation}
    return {
        "control": "tool" if interface.action.moves_tool else "joints",
        "target_history": seen.get("joint_target", 0),
    }


def term_slice(interface: PolicyInterface, name: str) -> slice:
    """The slice of a term in the observation vector."""
    start = 0
    for term in interface.observation:
        if term.name == name:
            return slice(start, start + term.size)
        start += term.size
    raise KeyError(name)


def observation_space(description: RobotDescription, terms: tuple[ObservationTerm, ...]) -> spaces.Dict:
    """The observation space; its bounds leave room for an arm that is pushed past its limits."""
    low, high = [], []
    for term in terms:
        match term.source, term.unit:
            case "joint_pos" | "joint_target", _:
                bottom = np.tile(description.limits("position_min_rad") - 0.5, term.history)
                top = np.tile(description.limits("position_max_rad") + 0.5, term.history)
            case "joint_vel", _:
                top = 4.0 * description.limits("velocity_max_rad_s")
                bottom = -top
            case _, unit:
                top = np.full(term.size, {"m": 2.0, "m/s": 10.0, "": 1.1}[unit])
                bottom = -top
        low.append(bottom)
        high.append(top)
    least, most = (np.concatenate(ends[:-1]).astype(np.float32) for ends in (low, high))
    goal = spaces.Box(-2.0, 2.0, (3,), np.float32)
    return spaces.Dict(observation=spaces.Box(least, most), achieved_goal=goal, desired_goal=goal)
