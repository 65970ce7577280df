"""What stands for pylibfranka: one arm that does at once what it is told, and stops when a test says so.

Torques move joints of a known inertia; gravity there is none.

Run as a script it is a gateway's process with that arm behind it.
"""

import sys
import time
from collections import deque
from enum import Enum
from types import SimpleNamespace

import numpy as np

from wpg.hardware_bridge.franka.limits import flange_position

TICK_S = 1e-3
INERTIA_KG_M2 = np.array([1.0, 1.0, 0.6, 0.6, 0.2, 0.2, 0.1])


class RobotMode(Enum):
    Other, Idle, Move, Guiding, Reflex, UserStopped, AutomaticErrorRecovery = range(7)


class NetworkException(RuntimeError):  # noqa: N818  libfranka's names
    pass


class ControlException(RuntimeError):  # noqa: N818
    pass


class CommandException(RuntimeError):  # noqa: N818
    pass


class RealtimeException(RuntimeError):  # noqa: N818
    pass


class InvalidOperationException(RuntimeError):  # noqa: N818
    pass


class Message:
    def __init__(self, values):
        self.values, self.motion_finished = np.array(values), False


class JointVelocities(Message):
    pass


class JointPositions(Message):
    pass


class Torques(Message):
    pass


def as_sent(values):
    """States travel as 32-bit floats."""
    return values.astype(np.float32).astype(float).tolist()


class FakeFci:
    """The module, and the one robot that it knows."""

    NetworkException = NetworkException
    ControlException = ControlException
    CommandException = CommandException
    RealtimeException = RealtimeException
    InvalidOperationException = InvalidOperationException
    RealtimeConfig = SimpleNamespace(kIgnore=0)
    JointVelocities = JointVelocities
    JointPositions = JointPositions
    Torques = Torques
    ControllerMode = SimpleNamespace(JointImpedance=0)

    def __init__(self, description, joint_pos=None):
        self.description = description
        self.q = np.array(description.limits("home_rad") if joint_pos is None else joint_pos)
        self.dq = np.zeros(7)
        self.ddq = np.zeros(7)
        self.torque = np.zeros(7)
        self.takes = None
        self.mode = RobotMode.Idle
        self.cycles = 0
        self.sent = []
        """Messages of the present motion and those before it."""
        self.tool_offset_m = 0.1034
        self.flange_error_m = 0.0
        self.dead = False
        self.refuses_recovery = False
        self.refusal = ""
        """Why no motion starts."""
        self.recoveries = 0
        self.stale_modes = deque()
        """What the next states say instead of the mode."""
        self.reflex = ""
        """Why the next command is answered by a stop."""

    def Robot(self, host, config):  # noqa: N802
        self._need_life()
        return self

    # The robot's own functions.

    def read_once(self):
        self._need_life()
        return self._state()

    def start_joint_velocity_control(self, mode):
        return self._start(JointVelocities)

    def start_joint_position_control(self, mode):
        return self._start(JointPositions)

    def start_torque_control(self):
        return self._start(Torques)

    def automatic_error_recovery(self):
        self._need_life()
        if self.refuses_recovery:
            raise CommandException("libfranka: command rejected: user stop pressed")
        self.recoveries += 1
        self.stale_modes.extend([self.mode] * 3)
        self.mode = RobotMode.Idle

    # The control object's.

    def readOnce(self):  # noqa: N802
        self._need_life()
        if self.reflex:
            self.stop_by(self.reflex)
        return self._state(), None

    def writeOnce(self, message):  # noqa: N802
        self._need_life()
        assert self.mode is RobotMode.Move
        assert type(message) is self.takes
        self.sent.append(message)
        before = self.q
        if self.takes is Torques:
            self.torque = message.values
            velocity = self.dq + TICK_S * message.values / INERTIA_KG_M2
            self.q = before + TICK_S * velocity
        else:
            self.q = message.values if self.takes is JointPositions else before + TICK_S * message.values
            velocity = (self.q - before) / TICK_S
        self.dq, self.ddq = velocity, (velocity - self.dq) / TICK_S
        if message.motion_finished:
            self.mode, self.dq = RobotMode.Idle, np.zeros(7)

    def stop_by(self, reason, mode=RobotMode.Reflex):
        self.mode, self.reflex, self.dq = mode, "", np.zeros(7)
        raise ControlException(f"libfranka: Move command aborted: {reason}")

    def _start(self, takes):
        self._need_life()
        if self.refusal or self.mode is not RobotMode.Idle:
            raise CommandException(f"libfranka: Move command rejected: {self.refusal or self.mode.name}")
        self.mode, self.takes = RobotMode.Move, takes
        self.dq, self.ddq, self.torque = np.zeros(7), np.zeros(7), np.zeros(7)
        return self

    def _need_life(self):
        if self.dead:
            raise NetworkException("libfranka: UDP receive: Timeout")

    def _state(self):
        self.cycles += 1
        pose = np.eye(4)
        pose[:3, 3] = flange_position(self.description, self.q)
        pose[0, 3] += self.flange_error_m
        offset = np.eye(4)
        offset[2, 3] = self.tool_offset_m
        cycles = self.cycles
        return SimpleNamespace(
            q=self.q.tolist(),
            dq=self.dq.tolist(),
            q_d=as_sent(self.q),
            dq_d=as_sent(self.dq),
            ddq_d=as_sent(self.ddq),
            tau_J=self.torque.tolist(),
            tau_J_d=self.torque.tolist(),
            time=SimpleNamespace(to_sec=lambda: cycles * TICK_S),
            robot_mode=self.stale_modes.popleft() if self.stale_modes else self.mode,
            control_command_success_rate=1.0 if self.mode is RobotMode.Move else 0.0,
            O_T_EE=(pose @ offset).T.ravel().tolist(),
            F_T_EE=offset.T.ravel().tolist(),
        )


def main():
    """Serve the Panda that this module stands for, as the gateway's process does."""
    from wpg.hardware_bridge.description import load_description
    from wpg.hardware_bridge.franka.gateway import main as gateway

    robot = FakeFci(load_description("panda"))
    paced = robot._state

    def state():
        time.sleep(TICK_S)
        return paced()

    robot._state = state
    if "dies" in sys.argv:
        robot.start_joint_velocity_control = lambda mode: setattr(robot, "dead", True) or robot
    if "dies as it is armed" in sys.argv:
        robot.start_joint_velocity_control = lambda mode: setattr(robot, "dead", True) or robot._need_life()
    if "refuses to move" in sys.argv:
        robot.refusal = "brakes are closed"
    if "takes no velocities" in sys.argv:
        del FakeFci.start_joint_velocity_control
    return gateway(robot)


if __name__ == "__main__":
    sys.exit(main())
