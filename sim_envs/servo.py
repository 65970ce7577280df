"""What simulated arms have in common: the servo's law, what it follows, and how it stops."""

from abc import ABC, abstractmethod

import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import JointCommand, RobotState, RobotStatus, StopMode, Vector
from wpg.sim_envs.scene import CubeState, Image, Marker
from wpg.sim_envs.urdf import simulation_model

STOPPED = {
    StopMode.HOLD: RobotStatus.HOLDING,
    StopMode.DAMP: RobotStatus.DAMPING,
    StopMode.RELEASE: RobotStatus.RELEASED,
}


class ServoArm(ABC):
    """A simulated arm whose joints are servoed, with gravity compensated.

    ``τ = clip(K (q_d − q) + D (q̇_d − q̇), −τ_max, τ_max) + g(q)``. :attr:`StopMode.DAMP` leaves ``−D q̇`` of
    this, :attr:`StopMode.RELEASE` nothing. Before it is armed the arm stands still as if on its brakes.

    Args:
        description: the robot.
        reference: (num_joints,) array that the engine's servo reads ``q_d + D/K q̇_d`` from.
    """

    def __init__(self, description: RobotDescription, reference: Vector) -> None:
        model = simulation_model(description)
        self._description = description
        self._step_s = model.step_s
        self._lead_s = np.array(model.damping_nm_s_rad) / np.array(model.stiffness_nm_rad)
        self._reference = reference
        self._status = RobotStatus.IDLE
        self._num_steps = 0
        self._place(description.limits("home_rad"))
        self._brake()

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        return self._description

    def connect(self) -> None:  # noqa: B027
        """Nothing to open."""

    def arm(self) -> None:
        """Hold the present position and follow commands from now on."""
        self._brake()
        self._status = RobotStatus.ARMED

    def reset(self, joint_pos: Vector) -> None:
        """Put the arm at rest at ``joint_pos`` (num_joints,) rad, armed, at time zero."""
        self._num_steps = 0
        self._place(joint_pos)
        self.arm()

    def read(self) -> RobotState:
        """The state after the last physics step."""
        joint_pos, joint_vel, joint_torque = self._measure()
        return RobotState(
            joint_pos=joint_pos,
            joint_vel=joint_vel,
            joint_torque=joint_torque,
            time_s=self._num_steps * self._step_s,
            sequence=self._num_steps,
            status=self._status,
        )

    def write(self, command: JointCommand) -> JointCommand:
        """Follow a set-point; where the arm is not armed, the command that holds it is returned instead."""
        if self._status is not RobotStatus.ARMED:
            return JointCommand(joint_pos=self._reference.copy(), joint_vel=np.zeros_like(self._reference))
        np.multiply(self._lead_s, command.joint_vel, out=self._reference)
        self._reference += command.joint_pos
        return command

    def stop(self, mode: StopMode) -> None:
        """Hold here, damp, or let go."""
        self._brake()
        self._servo(stiff=mode is StopMode.HOLD, damped=mode is not StopMode.RELEASE)
        self._status = STOPPED[mode]

    def advance(self, duration_s: float) -> None:
        """Let simulated time pass.

        Raises:
            ValueError: ``duration_s`` is no multiple of the physics step.
        """
        steps = round(duration_s / self._step_s)
        if abs(steps * self._step_s - duration_s) > 1e-9:
            raise ValueError(
                f"expected a multiple of the physics step {self._step_s} s, found {duration_s} s"
            )
        self._integrate(steps)
        self._num_steps += steps

    def _brake(self) -> None:
        """Servo on at the measured position."""
        self._reference[:] = self._measure()[0]
        self._servo(stiff=True, damped=True)

    @abstractmethod
    def tool_position(self) -> Vector:
        """Where the engine says the tool is, (3,) m in the base frame."""

    @abstractmethod
    def place_cube(self, position_m: Vector, yaw_rad: float) -> None:
        """Put the cube down at rest; ``position_m`` (3,) is that of its middle."""

    @abstractmethod
    def cube_state(self) -> CubeState:
        """Where the cube is and how it moves."""

    @abstractmethod
    def render(self, markers: tuple[Marker, ...]) -> Image:
        """The scene with these markers in it, (height, width, 3)."""

    @abstractmethod
    def close(self) -> None:
        """Free the engine's memory. Never raises; harmless when called twice."""

    @abstractmethod
    def _place(self, joint_pos: Vector) -> None:
        """Set the joints at rest and forget everything before."""

    @abstractmethod
    def _measure(self) -> tuple[Vector, Vector, Vector]:
        """Fresh arrays: position (rad), velocity (rad/s), motor torque (Nm)."""

    @abstractmethod
    def _servo(self, *, stiff: bool, damped: bool) -> None:
        """Switch the position part, with gravity compensation, and the velocity part of the law."""

    @abstractmethod
    def _integrate(self, steps: int) -> None:
        """Advance by physics steps."""
