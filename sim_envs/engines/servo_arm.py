"""Base class of simulated arms: the servo law, how it follows setpoints, and how it stops."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.gripper import GripperSetpoint
from wpg.hardware_bridge.robot import (
    STATUS_AFTER_STOP,
    JointCommand,
    RobotState,
    RobotStatus,
    StopMode,
    Vector,
)
from wpg.sim_envs.effects import DrawnEffects
from wpg.sim_envs.engines.actuator import Actuator, JointSensor
from wpg.sim_envs.models.scene import EMPTY, CubeState, Image, Marker, Scene
from wpg.sim_envs.models.urdf import simulation_model


class ServoArm(ABC):
    """A simulated arm whose joints are servoed, with gravity compensated.

    The law is ``τ = clip(K (q_d − q) + D (q̇_d − q̇), −τ_max, τ_max) + g(q)``. After a stop with
    :attr:`StopMode.DAMP` only ``−D q̇`` remains, after :attr:`StopMode.RELEASE` nothing. Until it is armed,
    the arm stands still as if on its brakes.

    With effects (:meth:`apply`) an :class:`~wpg.sim_envs.engines.actuator.Actuator` delays and filters
    ``q_d``, friction is added to ``τ``, and a :class:`~wpg.sim_envs.engines.actuator.JointSensor` measures.

    Args:
        description: the robot.
        reference: (num_joints,) array from which the engine's servo reads ``q_d + D/K q̇_d``.
        scene: the objects around the arm.

    Attributes:
        table_height_m: height of the table's top.
    """

    def __init__(self, description: RobotDescription, reference: Vector, scene: Scene = EMPTY) -> None:
        model = simulation_model(description)
        self._description = description
        self._step_s = model.step_s
        self._stiffness = np.array(model.stiffness_nm_rad)
        self._damping = np.array(model.damping_nm_s_rad)
        self._torque_max = description.limits("torque_max_nm")
        self._lead_s = self._velocity_lead()
        self._reference = reference
        gripper = description.gripper if scene.gripper else None
        self._gripper = None if gripper is None else GripperSetpoint(gripper, 0.0)
        self.table_height_m = 0.0
        self._actuator: Actuator | None = None
        self._sensor: JointSensor | None = None
        self._status = RobotStatus.IDLE
        self._num_steps = 0
        self._place(description.limits("home_rad"))
        self._brake()

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        return self._description

    def connect(self) -> None:  # noqa: B027
        """Do nothing: there is no connection to open."""

    def arm(self) -> None:
        """Hold the current position and follow commands from now on."""
        self._brake()
        self._status = RobotStatus.ARMED

    def reset(self, joint_pos: Vector) -> None:
        """Put the arm at rest at ``joint_pos`` (num_joints,) rad, armed, at time zero."""
        self._num_steps = 0
        self._place(joint_pos)
        if self._gripper is not None:
            self._gripper.start(np.inf)
            self._place_fingers(self._gripper.opening_m)
            self._set_opening(self._gripper.opening_m)
        self.arm()
        if self._sensor is not None:
            self._sensor.restart(self._measure())

    def _velocity_lead(self) -> Vector:
        """Factor D/K of the commanded velocity, (num_joints,) s; zero for bus servos, which get none."""
        lead_s = self._damping / self._stiffness
        return lead_s if self._description.bus is None else np.zeros_like(lead_s)

    def apply(self, effects: DrawnEffects, rng: np.random.Generator) -> None:
        """Apply effects from the next :meth:`reset` on; ``rng`` draws noise and losses."""
        model, limits = simulation_model(self._description), self._description.limits("torque_max_nm")
        self._stiffness = effects.stiffness_factor * np.array(model.stiffness_nm_rad)
        self._damping = effects.damping_factor * np.array(model.damping_nm_s_rad)
        self._torque_max = effects.torque_limit_factor * limits
        self._lead_s = self._velocity_lead()
        self.table_height_m = effects.table_height_m
        self._actuator = Actuator(effects, self._step_s, rng)
        self._sensor = JointSensor(effects, rng)
        self._apply_effects(effects)
        if not self._actuator.has_friction:
            self._set_friction(np.zeros_like(self._damping))

    def read(self) -> RobotState:
        """The state after the last physics step."""
        time_s = self._num_steps * self._step_s
        measured = self._measure() if self._sensor is None else self._sensor.read(time_s)
        joint_pos, joint_vel, joint_torque = measured
        return RobotState(
            joint_pos=joint_pos,
            joint_vel=joint_vel,
            joint_torque=joint_torque,
            time_s=time_s,
            sequence=self._num_steps,
            status=self._status,
            gripper_m=None if self._gripper is None else self._opening(),
        )

    def write(self, command: JointCommand) -> JointCommand:
        """Follow a setpoint; an arm that is not armed ignores it and returns the command that holds it."""
        if self._status is not RobotStatus.ARMED:
            return JointCommand(
                joint_pos=self._reference.copy(),
                joint_vel=np.zeros_like(self._reference),
                gripper_m=None if self._gripper is None else self._gripper.opening_m,
            )
        self._aim_gripper(command.gripper_m)
        if self._actuator is not None:
            reference = command.joint_pos + self._lead_s * command.joint_vel
            self._actuator.send(self._num_steps * self._step_s, reference)
            return command
        np.multiply(self._lead_s, command.joint_vel, out=self._reference)
        self._reference += command.joint_pos
        return command

    def follow(self, joint_pos: Vector, joint_vel: Vector, gripper_m: float | None = None) -> None:
        """Write one setpoint per servo period, (T, num_joints) rad and rad/s, and simulate these periods."""
        if self._actuator is not None or self._status is not RobotStatus.ARMED:
            for pos, vel in zip(joint_pos, joint_vel, strict=True):
                self.write(JointCommand(joint_pos=pos, joint_vel=vel, gripper_m=gripper_m))
                self.advance(self._description.servo_dt_s)
            return
        self._aim_gripper(gripper_m)
        tick_s = self._description.servo_dt_s
        steps = round(tick_s / self._step_s)
        references = self._lead_s * joint_vel + joint_pos
        self._num_steps += steps * len(references)
        for tick, reference in enumerate(references):
            if self._gripper is None or self._gripper.is_there:  # from here on only the arm moves
                self._integrate(references[tick:], steps)
                break
            self._move_gripper(tick_s)
            self._integrate(reference[None], steps)

    def stop(self, mode: StopMode) -> None:
        """Hold the current position, damp the motion, or release the joints."""
        self._brake()
        self._switch_servo(stiff=mode is StopMode.HOLD, damped=mode is not StopMode.RELEASE)
        self._status = STATUS_AFTER_STOP[mode]

    def advance(self, duration_s: float) -> None:
        """Simulate for ``duration_s``.

        Raises:
            ValueError: ``duration_s`` is no multiple of the physics step.
        """
        steps = round(duration_s / self._step_s)
        if abs(steps * self._step_s - duration_s) > 1e-9:
            raise ValueError(
                f"expected a multiple of the physics step {self._step_s} s, found {duration_s} s"
            )
        self._move_gripper(duration_s)
        if self._actuator is None or self._sensor is None:
            self._integrate(self._reference[None], steps)
            self._num_steps += steps
            return
        for _ in range(steps):
            if self._actuator.has_friction:
                self._set_friction(self._actuator.friction(self._measure()[1]))
            self._integrate(self._actuator.step(self._num_steps * self._step_s)[None], 1)
            self._num_steps += 1
            if self._sensor.has_delay:
                self._sensor.record(self._num_steps * self._step_s, self._measure())
        if not self._sensor.has_delay:
            self._sensor.restart(self._measure())

    def replay(
        self, departures: NDArray[np.int64], joint_pos: Vector, joint_vel: Vector
    ) -> tuple[Vector, ...]:
        """Follow the setpoints of a recorded run from the last :meth:`reset` on, without noise.

        Args:
            departures: (T,) non-decreasing numbers of the physics steps before which the setpoints were sent;
                the first is 0.
            joint_pos: (T, num_joints) rad, setpoints.
            joint_vel: (T, num_joints) rad/s, setpoints.

        Returns:
            Position (rad), velocity (rad/s) and motor torque (Nm) at the time of each setpoint, (T,
            num_joints) each.

        Raises:
            RuntimeError: no effects were applied.
        """
        if self._actuator is None:
            raise RuntimeError("replay: expected apply() before, found no effects")
        references = self._actuator.plan(departures, joint_pos + self._lead_s * joint_vel)
        measured = [self._measure()]
        for reference in references:
            if self._actuator.has_friction:
                self._set_friction(self._actuator.friction(measured[-1][1]))
            self._integrate(reference[None], 1)
            measured.append(self._measure())
        self._num_steps += len(references)
        rows = np.array(measured)[departures]
        return rows[:, 0], rows[:, 1], rows[:, 2]

    def _aim_gripper(self, opening_m: float | None) -> None:
        if self._gripper is not None and opening_m is not None:
            self._gripper.set_target(opening_m)

    def _move_gripper(self, duration_s: float) -> None:
        """Move the fingers' setpoint towards the commanded opening."""
        if self._gripper is not None and not self._gripper.is_there:
            self._set_opening(self._gripper.step(duration_s))

    def _brake(self) -> None:
        """Switch the servo on at the current position."""
        self._reference[:] = self._measure()[0]
        if self._actuator is not None:
            self._actuator.restart(self._reference)
        self._switch_servo(stiff=True, damped=True)

    @abstractmethod
    def tool_position(self) -> Vector:
        """The tool's position according to the engine, (3,) m in the base frame."""

    @abstractmethod
    def place_cube(self, position_m: Vector, yaw_rad: float) -> None:
        """Put the cube at rest with its centre at ``position_m`` (3,)."""

    @abstractmethod
    def cube_state(self) -> CubeState:
        """Pose and velocity of the cube."""

    @abstractmethod
    def place_block(self, position_m: Vector) -> None:
        """Put the block with the hole so that the centre of its base is at ``position_m`` (3,)."""

    @abstractmethod
    def render(self, markers: tuple[Marker, ...]) -> Image:
        """Picture of the scene with the markers, (height, width, 3)."""

    @abstractmethod
    def show(self, markers: tuple[Marker, ...]) -> None:
        """Update the window, with the markers in it.

        Raises:
            WindowClosed: the user closed it.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the engine's memory. It never raises and may be called twice."""

    @abstractmethod
    def _place(self, joint_pos: Vector) -> None:
        """Set the joints at rest and forget the past."""

    @abstractmethod
    def _measure(self) -> tuple[Vector, Vector, Vector]:
        """Position (rad), velocity (rad/s) and motor torque (Nm) in new arrays, (num_joints,) each."""

    @abstractmethod
    def _switch_servo(self, *, stiff: bool, damped: bool) -> None:
        """Switch the two parts of the law on or off.

        Args:
            stiff: the position part, and gravity compensation.
            damped: the velocity part.
        """

    @abstractmethod
    def _set_opening(self, opening_m: float) -> None:
        """Set the setpoint of the fingers' servos."""

    @abstractmethod
    def _opening(self) -> float:
        """Distance between the fingers' pads, m."""

    @abstractmethod
    def _place_fingers(self, opening_m: float) -> None:
        """Set the fingers at rest at this opening."""

    @abstractmethod
    def _apply_effects(self, effects: DrawnEffects) -> None:
        """Pass gains and limits to the engine, and the effects on masses and surroundings."""

    @abstractmethod
    def _set_friction(self, damping: Vector) -> None:
        """Set the friction in the next physics step as a damping, (num_joints,) Nm s/rad."""

    @abstractmethod
    def _integrate(self, references: Vector, steps: int) -> None:
        """Servo to each reference, (T, num_joints) rad, for ``steps`` physics steps."""
