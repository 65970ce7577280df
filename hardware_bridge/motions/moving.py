"""Moves an arm along a planned motion, without a policy, with the checks of the control loop."""

import contextlib
from collections.abc import Callable, Iterator

from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.control.checks import check_gripper, check_stance, check_stop
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.hazard_monitor import STANDING, HazardMonitor, find_hazard, suspension
from wpg.hardware_bridge.control.mode_commander import ModeCommander
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.rate_timer import RateTimer
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.control.target_limiter import TargetLimiter
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
        self._safety = safety or SafetyConfig()
        self._should_stop = should_stop
        self._emergency = emergency or EmergencyStop()
        self._final_stop = final_stop
        self._reader = StateReader(robot, self._clock)
        self._modes = ModeCommander(robot, self._reader, self._emergency, self._clock)
        self._timer = RateTimer(robot.description.servo_dt_s, self._clock)
        self._start_s = self._clock.now()
        self.dt_s = robot.description.servo_dt_s
        self.motion = Motion(robot)
        self.limiter = TargetLimiter(robot.description, self._safety)
        self._monitor = HazardMonitor(self._safety, self._reader, self.motion, self.limiter)
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
            state, description = self._reader.first(), self._robot.description
            check_stance(state, description)
            self.limiter.check_start(state.joint_pos)
            if interface is not None:
                check_gripper(interface, description, state)
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
        self._arm()
        try:
            self._start()
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
        self._timer.wait()
        sense_s = self._clock.now()
        state = self._reader.read()
        self._heed_stops()
        if hazard := self._hazard(state):
            # Setpoints for braking would move an arm that an obstacle or a pause has stopped.
            self._modes.silent |= hazard.name in STANDING
            raise BridgeError(f"stopped by {hazard.name}: {hazard.detail}{_because(hazard, state)}")
        if state is not None:
            self.joint_pos = state.joint_pos
        command = move()
        self._recorder.tick(
            time_s=sense_s - self._start_s,
            phase=phase,
            state=state,
            command=command,
            lateness_s=self._timer.last_lateness_s,
            sense_to_act_s=self._clock.now() - sense_s,
        )
        return command

    def _hazard(self, state: RobotState | None) -> Hazard | None:
        if state is not None and (hazard := self._modes.stop_elsewhere(state)):
            return hazard
        return suspension(self._safety, self._timer.last_lateness_s) or self._monitor.hazard(
            state, missed_in_a_row=self._timer.missed_in_a_row, commanded=True, fed=False
        )

    def _heed_stops(self) -> None:
        if source := self._emergency.source:
            raise BridgeError(f"emergency stop by {source}")
        if reason := self._should_stop():
            raise BridgeError(f"stopped by {reason}")

    def _arm(self) -> None:
        try:
            self._modes.arm_first()
        except BaseException as error:
            # A robot that refused to arm may be in somebody else's run, which a stop would end.
            if not self._modes.refused:
                self._park(error)
            raise

    def _start(self) -> None:
        """Begin to command a robot that has just armed, from where it stands."""
        state = self._reader.first()
        self.motion.start(state.joint_pos, state.gripper_m)
        self.joint_pos = state.joint_pos
        self._timer.restart()

    def _brake(self) -> Hazard | None:
        """Brake to rest, as long as setpoints may be sent; returns what was found wrong meanwhile."""
        found = None
        with contextlib.suppress(BridgeError):
            for _ in range(round(BRAKING_MAX_S / self.dt_s)):
                if self._emergency.source or self._modes.silent:
                    break
                self._timer.wait()
                found = self._braking_hazard(self._reader.read()) or found
                # Asked after reading, so that an arm which rests already is looked at once more as well.
                if self._emergency.source or self._modes.silent or self.motion.at_rest:
                    break
                self.motion.brake()
        return found

    def _braking_hazard(self, state: RobotState | None) -> Hazard | None:
        """What is wrong with the robot while it brakes; lateness of either side no longer matters."""
        hazard = None if state is None else self._modes.stop_elsewhere(state)
        hazard = hazard or suspension(self._safety, self._timer.last_lateness_s)
        hazard = hazard or find_hazard(
            self._safety,
            state,
            state_age_s=0.0,
            missed_in_a_row=0,
            sent=self.motion.joint_pos,
            dt_s=self.dt_s,
        )
        self._modes.silent |= hazard is not None and hazard.name in STANDING
        return hazard

    def _park(self, error: BaseException | None = None, found: Hazard | None = None) -> None:
        """Stop the arm as configured.

        Args:
            error: what has ended the motion.
            found: what was found wrong since.

        Raises:
            BridgeError: something was found, stopping went wrong, or there was an emergency stop; names what
                ended the motion.
        """
        stopped = self._modes.leave(self._final_stop)
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
        if not isinstance(error, BridgeError | None):
            error.add_note(message)
        elif message and message != str(error):
            raise BridgeError(message) from error


def _because(hazard: Hazard, state: RobotState | None) -> str:
    if hazard.name == "device_hold" and state is not None and state.status is RobotStatus.HOLDING:
        return ": commands came later than its watchdog waits; is this machine busy?"
    return ""
