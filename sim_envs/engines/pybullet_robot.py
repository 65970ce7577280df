"""An arm in PyBullet (Coumans and Bai)."""

import math
import tempfile
from pathlib import Path

import numpy as np
from scipy.linalg.lapack import dposv

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects
from wpg.sim_envs.engines.display import require_display
from wpg.sim_envs.engines.quiet import quiet
from wpg.sim_envs.engines.servo_arm import ServoArm
from wpg.sim_envs.models.attachments import PAYLOAD
from wpg.sim_envs.models.scene import (
    ARM_FRICTION,
    EMPTY,
    PAYLOAD_GYRATION_M,
    TABLE,
    CubeState,
    Image,
    Marker,
    Scene,
)
from wpg.sim_envs.models.urdf import gripper_joints, load_arm, simulation_model

with quiet():
    import pybullet

    from wpg.sim_envs.engines.pybullet_rendering import Window, draw, show
    from wpg.sim_envs.engines.pybullet_scene import add_block, add_cube, add_table

UPRIGHT_M_S2 = (0.0, 0.0, -9.81)
FAR_ABOVE_M = 10.0


class PyBulletRobot(ServoArm):
    """An arm whose servos are torques computed before each physics step."""

    def __init__(
        self,
        description: RobotDescription,
        *,
        visuals: bool = False,
        window: bool = False,
        scene: Scene = EMPTY,
    ) -> None:
        if window:
            require_display()
        fingers, joints = len(gripper_joints(description, scene)), description.num_joints
        self._fingers = range(joints, joints + fingers)
        self._zeros = [0.0] * (joints + fingers)
        self._arm = slice(joints)
        self._inertia = np.empty((joints + fingers, joints + fingers))
        self._arm_inertia = self._inertia[:joints, :joints]
        with quiet():
            self._client = pybullet.connect(pybullet.GUI if window else pybullet.DIRECT)
        self._window = Window(self._client) if window else None
        self._table = add_table(self._client)
        with quiet():
            self._body, self._links, self._tool_link, self._tool_offset = self._load(description, scene)
        self._cube = add_cube(self._client, scene.cube) if scene.cube is not None else -1
        self._block = add_block(self._client, scene.peg) if scene.peg is not None else -1
        if visuals:
            show(self._client, TABLE)
        self._joints = list(range(description.num_joints))
        self._moving = [*self._joints, *self._fingers]
        self._stiff = False
        self._torque = np.zeros(description.num_joints)
        self._friction = self._torque
        self._effects: DrawnEffects | None = None
        self._gravity: tuple[float, ...] = UPRIGHT_M_S2
        self._nominal: list[tuple[float, Vector]] = []
        self._cube_shape = scene.cube
        super().__init__(description, np.zeros(description.num_joints), scene)

    def tool_position(self) -> Vector:
        """The tool's position according to the engine, (3,) m in the base frame."""
        link = pybullet.getLinkState(
            self._body, self._tool_link, computeForwardKinematics=True, physicsClientId=self._client
        )
        rotation = np.array(pybullet.getMatrixFromQuaternion(link[5])).reshape(3, 3)
        position: Vector = link[4] + rotation @ self._tool_offset
        return position

    def render(self, markers: tuple[Marker, ...]) -> Image:
        """Picture of the scene with the markers, (height, width, 3)."""
        return draw(self._client, markers)

    def show(self, markers: tuple[Marker, ...]) -> None:
        """Update the window, with the markers in it."""
        if self._window is not None:
            self._window.show(markers)

    def close(self) -> None:
        """Free the engine's memory. It never raises and may be called twice."""
        if self._client >= 0 and pybullet.isConnected(self._client):
            with quiet():  # a window's threads print when they end
                pybullet.disconnect(self._client)
        self._client = -1

    def _load(self, description: RobotDescription, scene: Scene) -> tuple[int, list[str], int, Vector]:
        """Load the arm; returns its body, its links, the index of the tool's link, and the tool on it."""
        client = self._client
        arm = load_arm(description, scene)
        pybullet.setTimeStep(simulation_model(description).step_s, physicsClientId=client)
        pybullet.setGravity(*UPRIGHT_M_S2, physicsClientId=client)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arm.urdf"
            path.write_text(arm.urdf)
            body = pybullet.loadURDF(
                str(path),
                useFixedBase=True,
                flags=pybullet.URDF_USE_INERTIA_FROM_FILE,
                physicsClientId=client,
            )
        joints = range(pybullet.getNumJoints(body, physicsClientId=client))
        for joint in (-1, *joints):
            pybullet.changeDynamics(
                body,
                joint,
                linearDamping=0.0,
                angularDamping=0.0,
                jointDamping=0.0,
                lateralFriction=ARM_FRICTION,  # the engine multiplies the coefficients of both bodies
                physicsClientId=client,
            )
        pybullet.setJointMotorControlArray(
            body, list(joints), pybullet.VELOCITY_CONTROL, forces=[0.0] * len(joints), physicsClientId=client
        )
        links = [pybullet.getJointInfo(body, joint, physicsClientId=client)[12].decode() for joint in joints]
        return body, links, links.index(arm.tool_link), arm.tool_offset_m

    def place_cube(self, position_m: Vector, yaw_rad: float) -> None:
        """Put the cube at rest with its centre at ``position_m`` (3,)."""
        client, turn = self._client, (0.0, 0.0, math.sin(yaw_rad / 2), math.cos(yaw_rad / 2))
        # It is lifted first to end its contacts: the solver starts from the forces of contacts that persist.
        for place in ((0.0, 0.0, FAR_ABOVE_M), position_m.tolist()):
            pybullet.resetBasePositionAndOrientation(self._cube, place, turn, physicsClientId=client)
            pybullet.performCollisionDetection(physicsClientId=client)
        pybullet.resetBaseVelocity(self._cube, (0.0,) * 3, (0.0,) * 3, physicsClientId=client)

    def cube_state(self) -> CubeState:
        """Pose and velocity of the cube."""
        position, turn = pybullet.getBasePositionAndOrientation(self._cube, physicsClientId=self._client)
        velocity, _ = pybullet.getBaseVelocity(self._cube, physicsClientId=self._client)
        return CubeState(
            position_m=np.array(position),
            rotation=np.array(pybullet.getMatrixFromQuaternion(turn)).reshape(3, 3),
            velocity_m_s=np.array(velocity),
        )

    def place_block(self, position_m: Vector) -> None:
        """Put the block with the hole so that the centre of its base is at ``position_m`` (3,)."""
        pybullet.resetBasePositionAndOrientation(
            self._block, position_m.tolist(), (0, 0, 0, 1), physicsClientId=self._client
        )

    def _place(self, joint_pos: Vector) -> None:
        self._torque = np.zeros_like(self._damping)
        for joint, position in zip(self._joints, joint_pos.tolist(), strict=True):
            pybullet.resetJointState(self._body, joint, position, 0.0, physicsClientId=self._client)

    def _set_opening(self, opening_m: float) -> None:
        gripper = self._description.gripper
        pybullet.setJointMotorControlArray(
            self._body,
            self._fingers,
            pybullet.POSITION_CONTROL,
            targetPositions=[opening_m / 2.0] * 2,
            forces=[0.0 if gripper is None else gripper.force_n] * 2,
            physicsClientId=self._client,
        )

    def _opening(self) -> float:
        states = pybullet.getJointStates(self._body, self._fingers, physicsClientId=self._client)
        return float(sum(state[0] for state in states))

    def _place_fingers(self, opening_m: float) -> None:
        for joint in self._fingers:
            pybullet.resetJointState(self._body, joint, opening_m / 2.0, 0.0, physicsClientId=self._client)

    def _measure(self) -> tuple[Vector, Vector, Vector]:
        states = pybullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        joint_pos, joint_vel, _, _ = zip(*states, strict=True)
        return np.array(joint_pos), np.array(joint_vel), self._torque

    def _switch_servo(self, *, stiff: bool, damped: bool) -> None:
        self._stiff = stiff
        self._position_gain, self._velocity_gain = self._stiffness * stiff, self._damping * damped
        self._implicit_gain = self._step_s * self._velocity_gain
        self._implicit_diagonal = np.diag(self._implicit_gain)
        self._torque_min = -self._torque_max

    def _set_friction(self, damping: Vector) -> None:
        self._friction = damping

    def _apply_effects(self, effects: DrawnEffects) -> None:
        client, body = self._client, self._body
        if not self._nominal:
            # The engine's inverse dynamics keeps the masses that it is first used with: the nominal ones.
            self._compensation(tuple(self._zeros))
            for link in range(pybullet.getNumJoints(body, physicsClientId=client)):
                info = pybullet.getDynamicsInfo(body, link, physicsClientId=client)
                self._nominal.append((info[0], np.array(info[2])))
        self._effects = effects
        self._gravity = tuple(effects.gravity_m_s2(-UPRIGHT_M_S2[2]).tolist())
        factor, payload = effects.mass_factor, effects.payload_kg
        bodies = [(factor * mass, factor * effects.inertia_factor * turn) for mass, turn in self._nominal]
        if payload:
            bodies[self._links.index(PAYLOAD)] = payload, np.full(3, payload * PAYLOAD_GYRATION_M**2)
        for link, (mass, inertia) in enumerate(bodies):
            pybullet.changeDynamics(
                body, link, mass=mass, localInertiaDiagonal=inertia.tolist(), physicsClientId=client
            )
        height = (0.0, 0.0, effects.table_height_m)
        pybullet.resetBasePositionAndOrientation(self._table, height, (0, 0, 0, 1), physicsClientId=client)
        pybullet.setGravity(*self._gravity, physicsClientId=client)
        if self._cube_shape is not None:
            mass = effects.object_mass_factor * self._cube_shape.mass_kg
            pybullet.changeDynamics(
                self._cube,
                -1,
                mass=mass,
                localInertiaDiagonal=[mass * (2.0 * self._cube_shape.half_size_m) ** 2 / 6.0] * 3,
                lateralFriction=effects.object_friction_factor,
                physicsClientId=client,
            )

    def _integrate(self, references: Vector, steps: int) -> None:
        body, client, joints, torque = self._body, self._client, self._joints, pybullet.TORQUE_CONTROL
        for reference in references:
            self._reference[:] = reference
            for _ in range(steps):
                forces = self._forces().tolist()
                pybullet.setJointMotorControlArray(
                    body, joints, torque, forces=forces, physicsClientId=client
                )
                pybullet.stepSimulation(physicsClientId=client)

    def _forces(self) -> Vector:
        """Joint torques: the law of :class:`ServoArm` with the damping at the end of the step, and friction.

        ``(M + A + h (D + R)) q̈ = F − R q̇ + g − b`` predicts the acceleration under ``F = clip(K e − D q̇)``
        and friction ``R``; joints at their torque limit have no ``D``. The motor's torque is ``τ = F − h D q̈
        + g``; friction and armature add ``−R (q̇ + h q̈) − A q̈``. MuJoCo's ``implicitfast`` integrator
        computes the same. With the damping at the start of the step, the arm would shake wherever two joint
        axes align.
        """
        body, client, effects, zeros = self._body, self._client, self._effects, self._zeros
        states = pybullet.getJointStates(body, self._moving, physicsClientId=client)
        pos, vel, _, _ = zip(*states, strict=True)
        bias = pybullet.calculateInverseDynamics(body, pos, vel, zeros, physicsClientId=client)
        hold = self._compensation(pos) if self._stiff else zeros
        joint_pos, joint_vel, joint_bias, joint_hold = np.array((pos, vel, bias, hold))[:, self._arm]
        drive = self._position_gain * (self._reference - joint_pos) - self._velocity_gain * joint_vel
        self._inertia[:] = pybullet.calculateMassMatrix(body, pos, physicsClientId=client)
        if effects is None:
            motor, _ = self._motor(drive, joint_hold - joint_bias, self._arm_inertia)
            self._torque = motor + joint_hold
            return self._torque
        inertia, joint_bias = effects.mass_factor * self._arm_inertia, effects.mass_factor * joint_bias
        if effects.payload_kg:
            load, weight = self._payload(pos, effects.payload_kg)
            inertia += load
            joint_bias -= weight
        passive = self._step_s * self._friction + effects.armature_kg_m2
        inertia.ravel()[:: len(inertia) + 1] += passive
        rubbed = self._friction * joint_vel
        motor, acceleration = self._motor(drive, joint_hold - joint_bias - rubbed, inertia)
        self._torque = motor + joint_hold
        torque: Vector = self._torque - rubbed - passive * acceleration
        return torque

    def _motor(self, drive: Vector, load: Vector, inertia: Vector) -> tuple[Vector, Vector]:
        """Motor torques without gravity compensation, and accelerations, (num_joints,) each.

        A joint at its torque limit has no damping, unless its torque would reverse before the end of the
        step; then it keeps the damping, and the limit applies to the torque at the end of the step. Without
        this, a light last link that is hit would spin up from step to step.

        Args:
            drive: (num_joints,) Nm, the law at the start of the step.
            load: (num_joints,) Nm, all other torques.
            inertia: (num_joints, num_joints), symmetric; LAPACK's lower triangle is its upper one.
        """
        gain, low, high = self._implicit_gain, self._torque_min, self._torque_max
        motor: Vector = np.minimum(np.maximum(drive, low), high)
        if motor.tolist() == drive.tolist():
            damped = inertia.T + self._implicit_diagonal
            acceleration = dposv(damped, drive + load, overwrite_a=1, overwrite_b=1)[1]
            return motor - gain * acceleration, acceleration
        free = motor == drive
        implicit = gain * free
        acceleration = dposv(inertia.T + np.diag(implicit), motor + load)[1]
        turns = ~free & (drive * (drive - gain * acceleration) < 0.0)
        if turns.any():
            motor, implicit = np.where(turns, drive, motor), gain * (free | turns)
            acceleration = dposv(inertia.T + np.diag(implicit), motor + load)[1]
        return np.minimum(np.maximum(motor - implicit * acceleration, low), high), acceleration

    def _payload(self, joint_pos: tuple[float, ...], mass_kg: float) -> tuple[Vector, Vector]:
        """Inertia (J, J) and weight (J,) of a point mass at the tool in joint space, J = num_joints."""
        link, zeros, arm = self._links.index(PAYLOAD), self._zeros, len(self._joints)
        jacobian, _ = pybullet.calculateJacobian(
            self._body, link, (0.0,) * 3, joint_pos, zeros, zeros, physicsClientId=self._client
        )
        lever = np.array(jacobian)[:, :arm]
        return mass_kg * lever.T @ lever, mass_kg * (self._gravity @ lever)

    def _compensation(self, joint_pos: tuple[float, ...]) -> tuple[float, ...]:
        """Torques (Nm) of joints and fingers that hold the nominal arm on an upright base."""
        body, client, zeros, tilted = self._body, self._client, self._zeros, self._gravity != UPRIGHT_M_S2
        if tilted:
            pybullet.setGravity(*UPRIGHT_M_S2, physicsClientId=client)
        torque: tuple[float, ...] = pybullet.calculateInverseDynamics(
            body, joint_pos, zeros, zeros, physicsClientId=client
        )
        if tilted:
            pybullet.setGravity(*self._gravity, physicsClientId=client)
        return torque
