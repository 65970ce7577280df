"""One small move per joint, held against the description: order, sign, scale, lag and noise.

What ``wpg check`` does before a policy may move a new robot, or one that was taken apart.
"""

import numpy as np
from numpy.typing import NDArray

from wpg.export.contract import PolicyInterface
from wpg.export.kinematics import Record
from wpg.hardware_bridge.checks import check_gripper, check_stance
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError, StaleStateError
from wpg.hardware_bridge.metronome import Metronome
from wpg.hardware_bridge.motion import Motion
from wpg.hardware_bridge.parking import park
from wpg.hardware_bridge.robot import Robot, RobotState, RobotStatus, StopMode, Vector
from wpg.hardware_bridge.sensing import Sensor

PACE = 0.3
REST_S = 0.3
MOVE_TIMEOUT_S = 10.0
LAG_MAX_S = 0.3
SCALE_TOLERANCE = 0.1
CROSSTALK_MAX = 0.3
STUCK_SHARE = 0.2
STALE_MAX = 50


class JointCheck(Record, frozen=True, kw_only=True):
    """How one joint answered to being moved."""

    joint: str
    moved: str
    """The joint whose measurement moved most; empty when none did."""
    scale: float
    """Measured over commanded travel; negative when the sign is wrong."""
    lag_s: float
    """Delay at which the measurement fits the command best."""
    noise_rad: float
    """Standard deviation at rest."""
    fault: str
    """What is wrong; empty when nothing is."""

    @property
    def ok(self) -> bool:
        """The joint does what the description says."""
        return not self.fault

    @property
    def is_risky(self) -> bool:
        """Further moves would go where nobody expects them."""
        return self.moved not in ("", self.joint) or (self.moved == self.joint and self.scale < 0)


def check_joints(
    robot: Robot,
    *,
    travel_rad: float = 0.05,
    interface: PolicyInterface | None = None,
    clock: Clock | None = None,
) -> list[JointCheck]:
    """Move every joint by ``travel_rad`` and back, one after the other, slowly; a gripper stays as it is.

    Stops at the first joint whose faults make further moves a risk: the wrong joint moved, or the wrong way.

    Args:
        robot: not yet connected; closed at the end.
        travel_rad: how far; away from the nearer limit.
        interface: of the policy that is to run: a gripper that it needs is looked for first.
        clock: the time it runs in.

    Raises:
        BridgeError: the robot cannot be reached, or stops answering; it has been told to hold.
        ContractError: the policy needs a gripper, and the robot reports none.
    """
    mover = _Mover(robot, clock or RealClock())
    robot.connect()
    try:
        start = mover.arm(interface)
        checks: list[JointCheck] = []
        try:
            for index in range(robot.description.num_joints):
                checks.append(_check_joint(mover, robot.description, start, index, travel_rad))
                if checks[-1].is_risky:
                    break
        finally:
            parking = park(robot, StopMode.HOLD)
        if not parking.confirmed:
            raise BridgeError(f"the robot does not confirm that it holds: {parking.trouble}")
        return checks
    finally:
        robot.close()


class _Mover:
    """Moves the arm to a target and keeps what was commanded and measured on the way."""

    def __init__(self, robot: Robot, clock: Clock) -> None:
        self._robot = robot
        self._motion = Motion(robot)
        self._sensor = Sensor(robot, clock)
        self._metronome = Metronome(robot.description.servo_dt_s, clock)
        self.dt_s = robot.description.servo_dt_s

    def arm(self, interface: PolicyInterface | None) -> Vector:
        """Arm where the robot stands; returns where that is, (num_joints,) rad."""
        state, description = self._sensor.first(), self._robot.description
        check_stance(state, description)
        if interface is not None:
            check_gripper(interface, description, state)
        self._robot.arm()
        state = self._sensor.first()
        start = state.joint_pos
        self._motion.start(start, state.gripper_m)
        self._motion.set_pace(PACE)
        self._metronome.restart()
        return start

    def move(self, target: Vector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Commanded and measured positions until the arm has rested at the target, two (T, num_joints)."""
        self._motion.set_target(target)
        commanded, measured = [], []
        resting, stale = 0, 0
        for _ in range(round(MOVE_TIMEOUT_S / self.dt_s)):
            self._metronome.wait()
            state = self._sensor.read()
            stale = stale + 1 if state is None else 0
            if stale > STALE_MAX:
                raise StaleStateError(f"no state in {STALE_MAX} servo periods")
            if state is not None and state.status is not RobotStatus.ARMED:
                raise BridgeError(f"the robot reports {state.status.name} while it is moved{_because(state)}")
            commanded.append(self._motion.follow().joint_pos)
            last = self._sensor.state
            measured.append(commanded[-1] if last is None else last.joint_pos)
            resting = resting + 1 if self._motion.at_rest else 0
            if resting * self.dt_s >= REST_S:
                break
        return np.array(commanded), np.array(measured)


def _because(state: RobotState) -> str:
    if state.status is RobotStatus.HOLDING:
        return ": commands came later than its watchdog waits; is this machine busy?"
    return state.fault and f": {state.fault}"


def _check_joint(
    mover: _Mover, description: RobotDescription, start: Vector, index: int, travel_rad: float
) -> JointCheck:
    joint = description.joints[index]
    upwards = start[index] - joint.position_min_rad < joint.position_max_rad - start[index]
    target = start.copy()
    target[index] += travel_rad if upwards else -travel_rad
    commanded, measured = mover.move(target)
    mover.move(start)
    at_rest = measured[-round(REST_S / mover.dt_s) :]
    travel = at_rest.mean(axis=0) - measured[0]
    moved = int(np.argmax(np.abs(travel)))
    scale = float(travel[index] / (commanded[-1, index] - start[index]))
    lag = _lag(commanded[:, index] - start[index], measured[:, moved] - measured[0, moved], mover.dt_s)
    return JointCheck(
        joint=joint.name,
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
