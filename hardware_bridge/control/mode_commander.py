"""Commands the robot's mode, beside the setpoints: arms it, holds it, and leaves it stopped."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop, halt
from wpg.hardware_bridge.control.final_stop import StopResult, final_stop
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.errors import BridgeError, ProtocolError, StaleStateError
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import PersistentRobot, Robot, RobotState, RobotStatus, StopMode


class ModeCommander:
    """Arms, holds and stops a robot, and notices a stop that somebody else has ordered.

    Args:
        robot: the robot that is commanded.
        reader: reads its state.
        emergency: a request is heeded while the robot is left, and while it is armed by a driver that
            repeats the order to arm.
    """

    def __init__(self, robot: Robot, reader: StateReader, emergency: EmergencyStop, clock: Clock) -> None:
        self._robot = robot
        self._reader = reader
        self._emergency = emergency
        self._clock = clock
        self._unpowered = False
        self._elsewhere = False
        self.refused = False
        """Whether the robot refused to arm: it is then left to whoever commands it."""
        self.silent = False
        """Whether no setpoints are to be sent: the robot was ordered to hold, or somebody stopped it."""
        if isinstance(robot, PersistentRobot):
            robot.gives_up = lambda: bool(emergency.source)

    def arm_first(self) -> None:
        """Arm a robot that this run has not armed before.

        Raises:
            ProtocolError: the robot refuses; this run has not enabled torque and must leave the robot alone.
            BridgeError: something else failed; torque may be on.
        """
        try:
            self._robot.arm()
        except ProtocolError:
            self.refused = True
            raise
        except StaleStateError:
            self._unpowered = self._is_unpowered()
            raise

    def rearm(self) -> None:
        """Arm the robot again where it stands, to send setpoints to it again.

        Raises:
            BridgeError: it does not arm.
        """
        self._robot.arm()
        self.silent = False

    def hold(self) -> None:
        """Let the device hold the arm where it stands.

        Raises:
            BridgeError: the robot does not confirm that it holds.
        """
        self.silent = True
        self._robot.stop(StopMode.HOLD)

    def stop_elsewhere(self, state: RobotState) -> Hazard | None:
        """A hazard if somebody else has stopped the robot; setpoints, arming or parking must not undo that.

        Two stops are nobody's order: a robot holds by itself when its watchdog has run out, and servos on a
        bus, which nobody else can reach, lose their torque when their supply fails.
        """
        match state.status:
            case RobotStatus.ARMED | RobotStatus.FAULT:
                return None
            case RobotStatus.HOLDING if self.silent or not state.ordered:
                return None
            case RobotStatus.RELEASED if self._robot.description.bus is not None and not state.ordered:
                return None
        self._elsewhere = self.silent = True
        told = state.fault or f"it reports {state.status.name}"
        return Hazard("device_stop", f"somebody else has stopped the robot: {told}")

    def leave(self, final: StopMode) -> StopResult:
        """Stop the robot as ``final`` says, or at once where it is if there is an emergency; never raises.

        A robot whose torque was never enabled, or that somebody else has stopped, is left unchanged.
        Exception: an emergency stop also holds a robot that somebody else has stopped.
        """
        if self._unpowered:
            return StopResult(confirmed=True, trouble="", detail="torque is not on")
        if not self._emergency.source:
            stopped = StopResult(confirmed=True, trouble="")
            if not self._elsewhere:
                stopped = final_stop(self._robot, final, stay=lambda: bool(self._emergency.source))
            if not self._emergency.source:
                return stopped
        return halt(self._robot, self._clock)

    def _is_unpowered(self) -> bool:
        """Whether the robot reports, after arming has failed, that it is without torque."""
        try:
            state = self._reader.first()
        except BridgeError:
            return False
        return state.status in (RobotStatus.IDLE, RobotStatus.RELEASED)
