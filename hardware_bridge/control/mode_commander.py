"""What a robot is ordered besides setpoints: to arm, to hold, and how it is left."""

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop, halt
from wpg.hardware_bridge.control.final_stop import StopResult, final_stop
from wpg.hardware_bridge.control.state_reader import StateReader
from wpg.hardware_bridge.errors import BridgeError, ProtocolError, StaleStateError
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import PersistentRobot, Robot, RobotState, RobotStatus, StopMode


class ModeCommander:
    """Arms, holds and leaves a robot, and knows which of its stops somebody else has ordered.

    Args:
        robot: what is ordered.
        reader: reads it.
        emergency: gives up arming, where the robot can be asked to.
    """

    def __init__(self, robot: Robot, reader: StateReader, emergency: EmergencyStop, clock: Clock) -> None:
        self._robot = robot
        self._reader = reader
        self._clock = clock
        self._unpowered = False
        self._elsewhere = False
        self.refused = False
        """The robot was never ours: it is left to whoever commands it."""
        self.silent = False
        """The robot stands by an order: setpoints are of no use, or would undo it."""
        if isinstance(robot, PersistentRobot):
            robot.gives_up = lambda: bool(emergency.source)

    def arm_first(self) -> None:
        """Arm a robot that was not armed by this run before.

        Raises:
            ProtocolError: it refuses; torque is not on by our doing, and it is to be left alone.
            BridgeError: something else has failed; torque may be on.
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
        """Arm the robot where it stands; it is to be sent setpoints again.

        Raises:
            BridgeError: it does not arm.
        """
        self._robot.arm()
        self.silent = False

    def hold(self) -> None:
        """Let the device hold the arm where it stands.

        Raises:
            BridgeError: it is not confirmed.
        """
        self.silent = True
        self._robot.stop(StopMode.HOLD)

    def stop_elsewhere(self, state: RobotState) -> Hazard | None:
        """A stop that somebody else has ordered, which is not to be undone by setpoints, arming or parking.

        A robot may hold by itself, when its watchdog has run out, and servos on a bus, which nobody else
        reaches, lose their torque with their supply.
        """
        match state.status:
            case RobotStatus.ARMED | RobotStatus.FAULT:
                return None
            case RobotStatus.HOLDING if self.silent or not state.ordered:
                return None
            case RobotStatus.RELEASED if self._robot.description.bus is not None and not state.ordered:
                return None
        self._elsewhere = self.silent = True
        return Hazard("device_stop", f"somebody else has stopped the robot: it reports {state.status.name}")

    def leave(self, final: StopMode, *, at_once: bool) -> StopResult:
        """Leave the robot as ``final`` says, or at once where it is; never raises.

        What torque was never on in, or somebody else has stopped, is left as it is; but an emergency stop
        holds also the latter.
        """
        if self._unpowered:
            return StopResult(confirmed=True, trouble="", detail="torque is not on")
        if at_once:
            return halt(self._robot, self._clock)
        if self._elsewhere:
            return StopResult(confirmed=True, trouble="")
        return final_stop(self._robot, final)

    def _is_unpowered(self) -> bool:
        """The robot is seen to be without torque after arming has failed."""
        try:
            state = self._reader.first()
        except BridgeError:
            return False
        return state.status in (RobotStatus.IDLE, RobotStatus.RELEASED)
