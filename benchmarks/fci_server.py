"""Serves franky-sim's Research 3 as strictly as the robot; :mod:`franka_fci` runs it in its own environment.

The simulated robot accepts any command at any time. This server

- keeps an absolute cycle of 1 ms as far as its host lets it, and counts the commands that came in time;
- continues the motion where a command is missing, and stops after 20 missing ones;
- refuses commands that leave the limits of velocity, acceleration and jerk, or of torque and torque rate;
- damps the velocity relative to the desired one when it follows positions. The simulated robot damps it
  relative to rest.

SIGUSR1 presses the user stop, SIGUSR2 releases it. On SIGTERM the server prints what it has seen, as JSON.

python fci_server.py [--host HOST] [--cpu CORE]
"""

import argparse
import contextlib
import json
import os
import signal
import time
from collections import deque
from typing import Any

import numpy as np
from franky_sim import FrankaRobotServer
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    BaseCommand,
    MoveStatus,
    RobotCommand,
    RobotMode,
    UDPCommand,
)
from franky_sim.franka_robot_server import ControlMode
from franky_sim.mujoco_simulator import MujocoSimulator

HOME = (0.0, -0.7853981634, 0.0, -2.35619449019, 0.0, 1.57079632679, 0.7853981634)
MISSED_MAX = 20
WINDOW = 100
TICK_S = 1e-3
POSITION_MIN = np.array((-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.5409, -3.0196))
POSITION_MAX = np.array((2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196))
SPEED_MAX = np.array((2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26))
OFFSET = np.array((0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35))
BRAKE = np.array((6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0))
ACCELERATION_MAX, JERK_MAX = 10.0, 5000.0
TORQUE_MAX = np.array((87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0))
TORQUE_RATE_MAX = 1000.0
ROUNDING = 1e-6
"""Relative; of a torque rate."""
# Where libfranka's list of errors has them.
JOINT_VELOCITY, VELOCITY_LIMITS, VELOCITY_STEP, ACCELERATION_STEP, COMMUNICATION = 3, 13, 14, 15, 25
TORQUE_STEP, TORQUE_RANGE = 32, 34


class Recovery(AutomaticErrorRecoveryCommand):
    """Leaves a reflex, but not a user stop."""

    def handle(self, server: "StrictServer") -> None:
        """Answer, and clear the errors."""
        if server.pressed:
            status = AutomaticErrorRecoveryStatus.kCommandRejectedDueToActivatedSafetyFunctions
        else:
            status = AutomaticErrorRecoveryStatus.kSuccess
            server.reflex = None
        self.reply(status)


class StrictServer(FrankaRobotServer):
    """Judges every command as the robot does."""

    def __init__(self, robot: Any, host: str) -> None:
        self.reflex: int | None = None
        self.pressed = False
        self.seen: dict[str, Any] = {
            "cycles": 0,
            "late": 0,
            "moving": 0,
            "missed": 0,
            "reflexes": {},
            "worst": {},
        }
        self.came: UDPCommand | None = None
        self.follow_position = robot._joint_position_control
        robot._joint_position_control = self.follow_motion
        super().__init__(robot, [host])
        self._FrankaServer__command_class_map[RobotCommand.kAutomaticErrorRecovery] = Recovery

    def start_motion(self, *arguments: Any) -> None:
        """Refuse while stopped."""
        if self.reflex is not None or self.pressed:
            raise RuntimeError("stopped")
        self.window: deque[bool] = deque([True] * WINDOW, maxlen=WINDOW)
        self.missing, self.heard = 0, False
        self.velocity = self.acceleration = self.torque = np.zeros(7)
        super().start_motion(*arguments)
        self.streamed: ControlMode = self._FrankaRobotServer__control_mode
        self.position = np.array(self._FrankaRobotServer__current_control_command.q_c)

    def follow_motion(self, position: np.ndarray) -> None:
        """``K (q_d - q) + D (q'_d - q')``, by a position that is ahead by D/K of the velocity."""
        moves = self.current_motion_id and self.streamed is ControlMode.POSITION
        ahead = self.robot.kv / self.robot.kp * self.velocity if moves else 0.0
        self.follow_position(position + ahead)

    def _handle_udp_command(self, command_data: bytes) -> None:
        command = UDPCommand.from_bytes(command_data)
        if command.message_id == self._FrankaServer__message_id - 1:
            self.came = command
        elif not (command.motion_generation_finished or command.torque_command_finished):
            # The answer to an earlier state has come too late, which is as good as lost.
            return
        super()._handle_udp_command(command_data)

    def _judge(self, command: UDPCommand) -> None:
        match self.streamed:
            case ControlMode.TORQUE:
                self._judge_torque(np.array(command.tau_J_d))
            case ControlMode.POSITION:
                position = np.array(command.q_c)
                self._judge_motion((position - self.position) / TICK_S)
                self.position = position
            case _:
                self._judge_motion(np.array(command.dq_c))

    def _judge_torque(self, torque: np.ndarray) -> None:
        rate = (torque - self.torque) / TICK_S
        self._saw({"torque": torque, "torque rate": rate})
        if (np.abs(torque) > TORQUE_MAX).any():
            self._stop(TORQUE_RANGE)
        elif (np.abs(rate) > TORQUE_RATE_MAX * (1 + ROUNDING)).any():
            self._stop(TORQUE_STEP)
        self.torque = torque

    def _judge_motion(self, velocity: np.ndarray) -> None:
        q = np.array(self.robot.inner_state.q)
        up, down = (
            np.clip(-OFFSET + np.sqrt(2 * BRAKE * np.maximum(ahead, 0)), 0, SPEED_MAX)
            for ahead in (POSITION_MAX - q, q - POSITION_MIN)
        )
        acceleration = (velocity - self.velocity) / TICK_S
        jerk = (acceleration - self.acceleration) / TICK_S
        self._saw({"speed": velocity, "acceleration": acceleration, "jerk": jerk})
        if ((velocity > up) | (velocity < -down)).any():
            self._stop(VELOCITY_LIMITS)
        elif (np.abs(acceleration) > ACCELERATION_MAX).any():
            self._stop(VELOCITY_STEP)
        elif (np.abs(jerk) > JERK_MAX).any():
            self._stop(ACCELERATION_STEP)
        self.velocity, self.acceleration = velocity, acceleration

    def _saw(self, values: dict[str, np.ndarray]) -> None:
        worst = self.seen["worst"]
        for name, value in values.items():
            worst[name] = max(worst.get(name, 0.0), float(np.abs(value).max()))

    def _post_process_commands(self) -> None:
        self.seen["cycles"] += 1
        came, self.came = self.came, None
        if self.current_motion_id and (self.heard or came):
            self.heard = True
            self.seen["moving"] += 1
            self.seen["missed"] += came is None
            self.window.append(came is not None)
            self.missing = self.missing + 1 if came is None else 0
            if came is None:
                self._go_on()
            else:
                self._judge(came)
            if self.missing >= MISSED_MAX:
                self._stop(COMMUNICATION)
            elif (np.abs(self.robot.inner_state.dq) > 1.1 * SPEED_MAX).any():
                self._stop(JOINT_VELOCITY)
            elif self.pressed:
                self._stop(None)
        super()._post_process_commands()

    def _go_on(self) -> None:
        """A command is missing: as the robot does, assume that acceleration, or torque, has stayed."""
        if self.streamed is ControlMode.TORQUE:
            return
        self.velocity = self.velocity + TICK_S * self.acceleration
        command = UDPCommand(dq_c=tuple(self.velocity.tolist()))
        if self.streamed is ControlMode.POSITION:
            self.position = self.position + TICK_S * self.velocity
            command = UDPCommand(q_c=tuple(self.position.tolist()))
        self._FrankaRobotServer__current_control_command = command

    def _stop(self, error: int | None) -> None:
        """End the motion by a reflex, or by the user stop."""
        if not self.current_motion_id:
            return
        self.reflex = error
        name = "user stop" if error is None else str(error)
        self.seen["reflexes"][name] = self.seen["reflexes"].get(name, 0) + 1
        status = MoveStatus.kEmergencyAborted if error is None else MoveStatus.kReflexAborted
        motion = self.current_motion_id
        self.stop_motion(send_preemption_signal=False)
        BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, status)
        self.reset_current_motion_id()

    @property
    def robot_state(self) -> Any:
        """The state, with success rate, mode and errors."""
        state = super().robot_state
        if self.current_motion_id:
            state = state.replace(control_command_success_rate=float(np.mean(self.window)))
            if self.streamed is ControlMode.TORQUE:
                state = state.replace(tau_J_d=tuple(self.torque))
            else:
                state = state.replace(dq_d=tuple(self.velocity), ddq_d=tuple(self.acceleration))
            if self.streamed is ControlMode.POSITION:
                state = state.replace(q_d=tuple(self.position))
        if self.pressed:
            return state.replace(robot_mode=RobotMode.kUserStopped)
        if self.reflex is not None:
            errors = tuple(index == self.reflex for index in range(41))
            return state.replace(robot_mode=RobotMode.kReflex, errors=errors, reflex_reason=errors)
        return state


def main() -> None:
    """Serve one robot until SIGTERM."""
    running = True

    def on_signal(number: int, frame: object) -> None:
        nonlocal running
        if number == signal.SIGTERM:
            running = False
        server.pressed = number == signal.SIGUSR1

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--cpu", type=int, help="core to stay on")
    options = parser.parse_args()
    with MujocoSimulator() as sim:
        server = StrictServer(sim.add_robot(initial_q=HOME), options.host)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, on_signal)
        server.init()
        sim.start()
        # A robot's controller is not held up by what runs beside it.
        if options.cpu is not None:
            os.sched_setaffinity(0, {options.cpu})
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
        print("ready", flush=True)
        deadline_s = time.monotonic()
        while running:
            server.process_commands()
            sim.step()
            with contextlib.suppress(BlockingIOError):
                server.send_state()
            deadline_s += TICK_S
            # A controller does not hurry to make up for time that its host took from it.
            if (behind_s := time.monotonic() - deadline_s) > 0:
                server.seen["late"] += 1
                deadline_s += behind_s
            time.sleep(max(0.0, deadline_s - time.monotonic()))
        server.cleanup()
    print(json.dumps(server.seen))


if __name__ == "__main__":
    main()
