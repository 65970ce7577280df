"""Moves an arm along a planned motion, without a policy, with the checks of the control loop."""

import contextlib
from collections.abc import Callable, Iterator

from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.control.attended_arm import AttendedArm
from wpg.hardware_bridge.control.checks import check_gripper, check_stop
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.hazard_monitor import STANDING
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import JointCommand, Robot, RobotState, RobotStatus, StopMode
from wpg.hardware_bridge.run_log.recorder import NoRecorder, Recorder

BRAKING_MAX_S = 2.0


class Mover:
    """Arms, moves and stops an arm. Every setpoint passes the safety filter; every hazard ends the motion.

    Args:
        robot: not yet connected.
        recorder: takes every servo period.
        clock: clock of the motion.
        safety: thresholds, and the box of the tool.
        should_stop: asked at every period; any answer but "" ends the motion and says why.
        emergency: asked at every period; a request holds the arm at once, before any braking by setpoints.
        final_stop: how the arm is left; after an emergency stop it is left holding instead.
    """

    def __init__(
        self,
        robot: Robot,
        *,
        recorder: Recorder | None = None,
        clock: Clock | None = None,
        safety: SafetyConfig | None = None,
        should_stop: Callable[[], str] = lambda: "",
        emergency: EmergencyStop | None = None,
        final_stop: StopMode = StopMode.HOLD,
    ) -> None:
        self._robot = robot
        self._recorder = recorder or NoRecorder()
        self._clock = clock or RealClock()
        self._should_stop = should_stop
        self._emergency = emergency or EmergencyStop()
        self._final_stop = final_stop
        self._arm = AttendedArm(robot, safety or SafetyConfig(), clock=self._clock, emergency=self._emergency)
        self._start_s = self._clock.now()
        self.dt_s = robot.description.servo_dt_s
        self.motion, self.limiter = self._arm.motion, self._arm.limiter
        self.joint_pos = robot.description.limits("home_rad")
        """Last measured positions, (num_joints,) rad; home before the robot is connected."""

    @contextlib.contextmanager
    def connected(self, interface: PolicyInterface | None = None) -> Iterator[None]:
        """Connect the robot and check that it may be armed where it stands; close it at the end.

        Args:
            interface: of a policy; the gripper that it needs is looked for.

        Raises:
            BridgeError: the robot cannot be reached, cannot stop as asked, or stands where it must not be
                armed.
            ContractError: the policy needs a gripper, and the robot reports none.
        """
        try:
            self._robot.connect()
            check_stop(self._robot, self._final_stop)
            state = self._arm.reader.first()
            self._arm.check_place(state)
            if interface is not None:
                check_gripper(interface, self._robot.description, state)
            self.joint_pos = state.joint_pos
            yield
        finally:
            self._robot.close()

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Arm the connected robot where it stands; at the end brake and stop it, whatever happens.

        Raises:
            BridgeError: the robot cannot be armed; something ended the motion; or it is not confirmed that
                the arm has stopped. Names all of it.
        """
        self._heed_stops()
        self._enable_torque()
        try:
            self.joint_pos = self._arm.start().joint_pos
            self._arm.timer.restart()
            yield
        except BridgeError as error:
            self._park(error, self._brake())
            raise
        except BaseException as error:
            self._park(error)
            raise
        self._park(None, self._brake())

    def tick(self, phase: str, move: Callable[[], JointCommand]) -> JointCommand:
        """Wait for the next period, check for hazards, and move; returns what was sent.

        Raises:
            BridgeError: there is a hazard or a request to stop; says which.
        """
        self._arm.timer.wait()
        sense_s = self._clock.now()
        state = self._arm.reader.read()
        self._heed_stops()
        if hazard := self._arm.monitor.interruption(state) or self._arm.monitor.hazard(state, commanded=True):
            # Setpoints for braking would move an arm that an obstacle or a pause has stopped.
            self._arm.modes.silent |= hazard.name in STANDING
            raise BridgeError(f"stopped by {hazard.name}: {hazard.detail}{_because(hazard, state)}")
        if state is not None:
            self.joint_pos = state.joint_pos
        command = move()
        self._recorder.tick(
            time_s=sense_s - self._start_s,
            phase=phase,
            state=state,
            command=command,
            lateness_s=self._arm.timer.last_lateness_s,
            sense_to_act_s=self._clock.now() - sense_s,
        )
        return command

    def _heed_stops(self) -> None:
        if source := self._emergency.source:
            raise BridgeError(f"emergency stop by {source}")
        if reason := self._should_stop():
            raise BridgeError(f"stopped by {reason}")

    def _enable_torque(self) -> None:
        try:
            self._arm.modes.arm_first()
        except BaseException as error:
            # A robot that refused to arm may be in somebody else's run, which a stop would end.
            if not self._arm.modes.refused:
                self._park(error)
            raise

    def _brake(self) -> Hazard | None:
        """Brake to rest, as long as setpoints may be sent; returns what was found wrong meanwhile."""
        found = None
        with contextlib.suppress(BridgeError):
            for _ in range(round(BRAKING_MAX_S / self.dt_s)):
                if self._emergency.source or self._arm.modes.silent:
                    break
                self._arm.timer.wait()
                state = self._arm.reader.read()
                # That the state or this loop is late no longer matters.
                if hazard := self._arm.monitor.interruption(state) or self._arm.monitor.fault(state):
                    found = hazard
                    self._arm.modes.silent |= hazard.name in STANDING
                # Asked after reading, so that an arm which rests already is looked at once more as well.
                if self._emergency.source or self._arm.modes.silent or self.motion.at_rest:
                    break
                self.motion.brake()
        return found

    def _park(self, error: BaseException | None = None, found: Hazard | None = None) -> None:
        """Stop the arm as configured.

        Args:
            error: what has ended the motion.
            found: what was found wrong since.

        Raises:
            BridgeError: something was found, stopping went wrong, or there was an emergency stop; names what
                ended the motion.
        """
        stopped = self._arm.modes.leave(self._final_stop)
        said = [str(error)] if isinstance(error, BridgeError) else []
        if source := self._emergency.source:
            said = [f"emergency stop by {source}: {stopped.trouble or stopped.detail}"]
        else:
            if found is not None and found.name not in str(error):
                said.append(f"{found.name}: {found.detail}")
            if stopped.trouble:
                unconfirmed = "" if stopped.confirmed else "holding is not confirmed, cut the power: "
                said.append(unconfirmed + stopped.trouble)
        message = "; ".join(said)
        if message and not isinstance(error, BridgeError | None):
            error.add_note(message)
        elif message and message != str(error):
            raise BridgeError(message) from error


def _because(hazard: Hazard, state: RobotState | None) -> str:
    if hazard.name == "device_hold" and state is not None and state.status is RobotStatus.HOLDING:
        return ": commands came later than its watchdog waits; is this machine busy?"
    return ""
