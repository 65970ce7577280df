"""A simulated arm that behaves like a real one: it must be armed, and its watchdog holds it."""

import numpy as np

from wpg.hardware_bridge.axes import as_command, in_row
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.emulation.goal_checker import GoalChecker
from wpg.hardware_bridge.limit_checker import LimitChecker
from wpg.hardware_bridge.native.command_gate import CommandGate
from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import JointCommand, RobotStatus, SimulatedRobot, StopMode, Vector
from wpg.hardware_bridge.witness import Witness, milliseconds

MAX_BEHIND_S = 0.25
"""An emulator that fell further behind real time than this skips the lost time."""


class EmulatedArm:
    """The arm behind every emulated device protocol. The caller tells it the time, so it runs on any clock.

    Args:
        robot: the simulated arm, which nobody else may use.
        now_s: time at which it starts.
        resolution_rad: resolution of positions in the device protocol.
    """

    def __init__(self, robot: SimulatedRobot, now_s: float, resolution_rad: float = 0.0) -> None:
        self._robot = robot
        self._goal: Vector | None = None
        self.watchdog_s = robot.description.watchdog_s
        """The arm holds after this long without a command."""
        self._advanced_to_s = now_s
        self._last_command_s = self._last_heard_s = now_s
        self._step_s = physics_step_s(robot.description)
        self._speed = self._speed_max = robot.description.limits("velocity_max_rad_s")
        self.witness = Witness(robot=robot.description.name)
        checker = LimitChecker(robot.description, resolution_rad)
        self._goal_checker = GoalChecker(checker, robot.description.servo_dt_s)
        robot.connect()
        self.state = robot.read()
        grips = self.state.gripper_m is not None
        self._gate = CommandGate(robot.description, self.witness, resolution_rad, gripper=grips)
        self._reference = self.state.joint_pos

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, rates."""
        return self._robot.description

    @property
    def status(self) -> RobotStatus:
        """Status of the arm."""
        return self.state.status

    @property
    def tick(self) -> int:
        """Number of the servo period of the last command that was followed."""
        return self._gate.tick

    @property
    def refusal(self) -> Refusal:
        """Why the last command was not followed."""
        return self._gate.refusal

    def begin(self, now_s: float) -> None:
        """Start anew at ``now_s``, if the arm was made earlier than it could be served."""
        self._advanced_to_s = self._last_command_s = now_s
        self._observe()

    def arm(self, now_s: float) -> None:
        """Enable torque at the present position, if that is finite."""
        self._observe()
        if not self._gate.start(in_row(self.state.joint_pos, self.state.gripper_m)):
            return
        self._robot.arm()
        self._observe()
        self._goal_checker.start(self.state.joint_pos)
        self._goal = None
        self._last_command_s = now_s
        self.witness.arms += 1

    def stop(self, mode: StopMode) -> None:
        """Stop in this mode, because a client ordered it."""
        self._robot.stop(mode)
        self._gate.stop()
        self._goal = None
        self._observe()
        self.witness.stops[mode.name.lower()] += 1

    def command(self, position: Vector, velocity: Vector, tick: int, now_s: float) -> None:
        """Follow a setpoint of every axis, or refuse it: not armed, not finite, outside the limits."""
        armed = self.status is RobotStatus.ARMED
        if self._gate.lets_pass(position, velocity, tick, measured=self.state.joint_pos, armed=armed):
            self._robot.write(as_command(position, velocity, self.description.num_joints))
            self._last_command_s = now_s

    def head_for(
        self,
        joint_pos: Vector,
        now_s: float,
        *,
        target: Vector,
        speed_rad_s: Vector,
        gripper_m: float | None = None,
    ) -> None:
        """Follow goals as bus servos do: goals are never refused, but approached at the servos' own speed.

        Goals carry no number, so they are checked by their arrival. What is checked is the goal as it came,
        not the part of it that the servos follow.

        Args:
            joint_pos: (num_joints,) rad, goals as they came.
            now_s: time at which they came.
            target: (num_joints,) rad, goals after the servos have clipped them.
            speed_rad_s: (num_joints,) speed limits of the servos.
            gripper_m: target opening of the gripper; None leaves it as it is.
        """
        outside = self._goal_checker.check(joint_pos, now_s)
        self.witness.saw_command(Refusal.NONE, outside)
        self._gate.accept(in_row(joint_pos, self.state.gripper_m), self._goal_checker.tick)
        if self._goal is None:
            self._reference = self.state.joint_pos.copy()
        self._goal = target
        self._speed = np.minimum(speed_rad_s, self._speed_max)
        self._last_command_s = now_s
        if gripper_m is not None:
            self._write_reference(gripper_m)

    def heard(self, now_s: float) -> None:
        """Reset the watchdog by something other than a command."""
        self._last_heard_s = now_s

    def advance_to(self, now_s: float) -> None:
        """Simulate the arm up to ``now_s``, and hold it if its watchdog runs out."""
        self.witness.late_ms_max = max(
            self.witness.late_ms_max, milliseconds(now_s - self._advanced_to_s - self._step_s)
        )
        if now_s - self._advanced_to_s > MAX_BEHIND_S:
            self._advanced_to_s = now_s - self._step_s
        steps = int((now_s - self._advanced_to_s) / self._step_s + 1e-9)
        if steps > 0:
            if self._goal is not None and not np.array_equal(self._reference, self._goal):
                self._approach(self._goal, steps * self._step_s)
                coasting_ms = milliseconds(now_s - self._last_command_s)
                self.witness.coasting_ms_max = max(self.witness.coasting_ms_max, coasting_ms)
            self._robot.advance(steps * self._step_s)
            self._advanced_to_s += steps * self._step_s
            self._observe()
        silence_s = now_s - max(self._last_command_s, self._last_heard_s)
        if self.status is RobotStatus.ARMED and silence_s >= self.watchdog_s:
            self._robot.stop(StopMode.HOLD)
            self._goal = None
            self._observe()
            self.witness.saw_hold(silence_s)

    def _approach(self, goal: Vector, duration_s: float) -> None:
        reach = self._speed * duration_s
        self._reference = self._reference + np.clip(goal - self._reference, -reach, reach)
        self._write_reference()

    def _write_reference(self, gripper_m: float | None = None) -> None:
        rest = np.zeros_like(self._reference)
        self._robot.write(JointCommand(joint_pos=self._reference, joint_vel=rest, gripper_m=gripper_m))

    @property
    def next_step_s(self) -> float:
        """When :meth:`advance_to` will have something to do."""
        return self._advanced_to_s + self._step_s

    def close(self) -> None:
        """Release the simulated arm."""
        self._robot.close()

    def _observe(self) -> None:
        self.state = self._robot.read()
        self.witness.saw_joints(self.state.joint_pos, self.state.joint_vel)


def physics_step_s(description: RobotDescription) -> float:
    """Physics step of the simulation, the smallest time that it can advance by."""
    return description.servo_dt_s if description.simulation is None else description.simulation.step_s
