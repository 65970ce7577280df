"""Checks order, sign, scale, lag and noise of every joint by one small move each.

``wpg check`` does this before a policy may move a new robot, or one that was taken apart.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wpg.export.interface import PolicyInterface
from wpg.export.record import Record
from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.motions.moving import Mover
from wpg.hardware_bridge.robot import Robot, StopMode, Vector

PACE = 0.3
REST_S = 0.3
MOVE_TIMEOUT_S = 10.0
LAG_MAX_S = 0.3
SCALE_TOLERANCE = 0.1
CROSSTALK_MAX = 0.3
STUCK_SHARE = 0.2


class JointCheck(Record, frozen=True, kw_only=True):
    """Result of moving one joint."""

    joint: str
    moved: str
    """Joint whose measurement moved most; empty if none did."""
    scale: float
    """Measured travel divided by commanded travel; negative if the sign is wrong."""
    lag_s: float
    """Delay at which the measurement fits the command best."""
    noise_rad: float
    """Standard deviation at rest."""
    fault: str
    """What is wrong; empty if nothing is."""

    @property
    def ok(self) -> bool:
        """Whether the joint does what the description says."""
        return not self.fault

    @property
    def is_risky(self) -> bool:
        """Whether further moves would be a risk, because the wrong joint or direction moved."""
        return self.moved not in ("", self.joint) or (self.moved == self.joint and self.scale < 0)


def check_joints(
    robot: Robot,
    *,
    travel_rad: float = 0.05,
    interface: PolicyInterface | None = None,
    safety: SafetyConfig | None = None,
    clock: Clock | None = None,
    should_stop: Callable[[], str] = lambda: "",
    emergency: EmergencyStop | None = None,
    final_stop: StopMode = StopMode.HOLD,
) -> list[JointCheck]:
    """Move every joint by ``travel_rad`` and back, one after the other, slowly; a gripper stays as it is.

    Stops at the first joint whose faults make further moves a risk: the wrong joint moved, or the wrong way.
    Every setpoint passes the safety filter; every hazard ends the check.

    Args:
        robot: not yet connected; closed at the end.
        travel_rad: length of the move, away from the nearer limit unless that leads out of the tool's box.
        interface: of the policy that is to run; the gripper that it needs is looked for first.
        safety: thresholds, and the box of the tool.
        clock: clock of the motion.
        should_stop: asked at every period; any answer but "" ends the check and says why.
        emergency: asked at every period; a request holds the arm at once, before any braking by setpoints.
        final_stop: how the arm is left; after an emergency stop it is left holding instead.

    Raises:
        BridgeError: the robot cannot be reached, or a move would bring the tool out of its box, before
            anything moved; or the check was ended, and the arm was brought to rest and stopped as
            configured. If that is not confirmed, the message says so.
        ContractError: the policy needs a gripper, and the robot reports none.
    """
    mover = Mover(
        robot,
        clock=clock,
        safety=safety,
        should_stop=should_stop,
        emergency=emergency,
        final_stop=final_stop,
    )
    checks: list[JointCheck] = []
    with mover.connected(interface):
        moves = _moves(mover, robot.description, travel_rad)
        with mover.armed():
            start = mover.joint_pos
            mover.motion.set_pace(PACE)
            for index, move in enumerate(moves):
                checks.append(_check_joint(mover, robot.description, start, index, move))
                if checks[-1].is_risky:
                    break
    return checks


def _moves(mover: Mover, description: RobotDescription, travel_rad: float) -> list[Vector]:
    """How far each joint's move takes the joints, (num_joints,) rad each.

    Raises:
        BridgeError: a joint's move would bring the tool out of its box, either way.
    """
    moves = []
    for index, joint in enumerate(description.joints):
        place = mover.joint_pos[index]
        upwards = place - joint.position_min_rad < joint.position_max_rad - place
        move = np.zeros(description.num_joints)
        move[index] = travel_rad if upwards else -travel_rad
        if not mover.limiter.is_inside(mover.joint_pos + move):
            move = -move
            is_possible = joint.position_min_rad <= place + move[index] <= joint.position_max_rad
            if not (is_possible and mover.limiter.is_inside(mover.joint_pos + move)):
                raise BridgeError(
                    f"workspace: moving joint {joint.name} by {travel_rad:g} rad brings the tool out of "
                    "its box: choose a smaller travel, or move the arm away from the edge"
                )
        moves.append(move)
    return moves


def _move(mover: Mover, target: Vector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Commanded and measured positions until the arm has rested at the target, two (T, num_joints)."""
    mover.motion.set_target(target)
    commanded, measured = [], []
    resting = 0
    for _ in range(round(MOVE_TIMEOUT_S / mover.dt_s)):
        commanded.append(mover.tick("checking", mover.motion.follow).joint_pos)
        measured.append(mover.joint_pos)
        resting = resting + 1 if mover.motion.at_rest else 0
        if resting * mover.dt_s >= REST_S:
            break
    return np.array(commanded), np.array(measured)


def _check_joint(
    mover: Mover, description: RobotDescription, start: Vector, index: int, move: Vector
) -> JointCheck:
    travel_rad = abs(move[index])
    commanded, measured = _move(mover, start + move)
    _move(mover, start)
    at_rest = measured[-round(REST_S / mover.dt_s) :]
    travel = at_rest.mean(axis=0) - measured[0]
    moved = int(np.argmax(np.abs(travel)))
    scale = float(travel[index] / (commanded[-1, index] - start[index]))
    lag = _lag(commanded[:, index] - start[index], measured[:, moved] - measured[0, moved], mover.dt_s)
    return JointCheck(
        joint=description.joint_names[index],
        moved=description.joint_names[moved] if abs(travel[moved]) > STUCK_SHARE * travel_rad else "",
        scale=round(scale, 4),
        lag_s=lag,
        noise_rad=float(at_rest[:, index].std()),
        fault=_fault(description.joint_names, index, travel, scale, travel_rad),
    )


def _lag(commanded: Vector, measured: Vector, dt_s: float) -> float:
    """Delay of ``measured`` (T,) behind ``commanded`` (T,), each scaled to its own final travel."""
    if abs(measured[-1]) < 1e-9:
        return 0.0
    model, answer = commanded / commanded[-1], measured / measured[-1]
    shifts = range(min(round(LAG_MAX_S / dt_s), len(model) - 1))
    errors = [np.mean((answer[shift:] - model[: len(model) - shift]) ** 2) for shift in shifts]
    return float(np.argmin(errors)) * dt_s


def _fault(names: tuple[str, ...], index: int, travel: Vector, scale: float, travel_rad: float) -> str:
    moved = int(np.argmax(np.abs(travel)))
    if abs(travel[moved]) < STUCK_SHARE * travel_rad:
        return "does not move: torque, power, or something in the way"
    if moved != index:
        return f"{names[moved]} moves instead: the order of the joints is wrong"
    if scale < 0:
        return "moves the other way: the sign is wrong"
    if abs(scale - 1) > SCALE_TOLERANCE:
        return f"moves {scale:.2f} times as far: the scale is wrong, or the servo is too soft"
    others = np.delete(np.abs(travel), index)
    if others.size and others.max() > CROSSTALK_MAX * travel_rad:
        return "another joint moves along"
    return ""
