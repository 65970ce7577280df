"""An arm in PyBullet (Coumans and Bai)."""

import math
import tempfile
from pathlib import Path

import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.quiet import quiet
from wpg.sim_envs.scene import ARM_FRICTION, TABLE, TABLE_FRICTION, Cube, CubeState, Image, Marker
from wpg.sim_envs.servo import ServoArm
from wpg.sim_envs.urdf import load_arm, simulation_model

with quiet():
    import pybullet

    from wpg.sim_envs.pybullet_looks import draw, show

GRAVITY_M_S2 = -9.81
FAR_ABOVE_M = 10.0


class PyBulletRobot(ServoArm):
    """An arm whose servos are torques computed before each physics step."""

    def __init__(
        self, description: RobotDescription, *, visuals: bool = False, cube: Cube | None = None
    ) -> None:
        model = simulation_model(description)
        self._stiffness = np.array(model.stiffness_nm_rad)
        self._damping = np.array(model.damping_nm_s_rad)
        self._step_damping = model.step_s * self._damping
        self._torque_max = description.limits("torque_max_nm")
        self._zeros = [0.0] * description.num_joints
        self._client = pybullet.connect(pybullet.DIRECT)
        with quiet():
            self._body, self._tool_link, self._tool_offset = self._load(description)
        self._cube = self._add_cube(cube) if cube is not None else -1
        if visuals:
            show(self._client, TABLE)
        self._joints = list(range(description.num_joints))
        self._stiff = self._damped = False
        self._torque = np.zeros_like(self._damping)
        super().__init__(description, np.zeros(description.num_joints))

    def tool_position(self) -> Vector:
        """Where the engine says the tool is, (3,) m in the base frame."""
        link = pybullet.getLinkState(
            self._body, self._tool_link, computeForwardKinematics=True, physicsClientId=self._client
        )
        rotation = np.array(pybullet.getMatrixFromQuaternion(link[5])).reshape(3, 3)
        position: Vector = link[4] + rotation @ self._tool_offset
        return position

    def render(self, markers: tuple[Marker, ...]) -> Image:
        """The scene with these markers in it, (height, width, 3)."""
        return draw(self._client, markers)

    def close(self) -> None:
        """Free the engine's memory. Never raises; harmless when called twice."""
        if self._client >= 0 and pybullet.isConnected(self._client):
            pybullet.disconnect(self._client)
        self._client = -1

    def _load(self, description: RobotDescription) -> tuple[int, int, Vector]:
        """Build the world; returns the arm's body, the link that carries the tool, the tool's place on it."""
        client = self._client
        arm = load_arm(description)
        pybullet.setTimeStep(simulation_model(description).step_s, physicsClientId=client)
        pybullet.setGravity(0.0, 0.0, GRAVITY_M_S2, physicsClientId=client)
        plane = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=client)
        speck = pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=1e-4, physicsClientId=client)
        table = (
            pybullet.createMultiBody(  # without a shape of its own to show, the plane would hide the table
                baseCollisionShapeIndex=plane, baseVisualShapeIndex=speck, physicsClientId=client
            )
        )
        pybullet.changeDynamics(table, -1, lateralFriction=TABLE_FRICTION, physicsClientId=client)
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
                lateralFriction=ARM_FRICTION,  # the engine multiplies the figures of both bodies
                physicsClientId=client,
            )
        pybullet.setJointMotorControlArray(
            body, list(joints), pybullet.VELOCITY_CONTROL, forces=self._zeros, physicsClientId=client
        )
        links = [pybullet.getJointInfo(body, joint, physicsClientId=client)[12].decode() for joint in joints]
        return body, links.index(arm.tool_link), arm.tool_offset_m

    def place_cube(self, position_m: Vector, yaw_rad: float) -> None:
        """Put the cube down at rest; ``position_m`` (3,) is that of its middle."""
        client, turn = self._client, (0.0, 0.0, math.sin(yaw_rad / 2), math.cos(yaw_rad / 2))
        # Lifted first: contacts that last keep forces from which the next step's solver would start.
        for place in ((0.0, 0.0, FAR_ABOVE_M), position_m.tolist()):
            pybullet.resetBasePositionAndOrientation(self._cube, place, turn, physicsClientId=client)
            pybullet.performCollisionDetection(physicsClientId=client)
        pybullet.resetBaseVelocity(self._cube, (0.0,) * 3, (0.0,) * 3, physicsClientId=client)

    def cube_state(self) -> CubeState:
        """Where the cube is and how it moves."""
        position, turn = pybullet.getBasePositionAndOrientation(self._cube, physicsClientId=self._client)
        velocity, _ = pybullet.getBaseVelocity(self._cube, physicsClientId=self._client)
        return CubeState(
            position_m=np.array(position),
            rotation=np.array(pybullet.getMatrixFromQuaternion(turn)).reshape(3, 3),
            velocity_m_s=np.array(velocity),
        )

    def _add_cube(self, cube: Cube) -> int:
        client, half_sizes = self._client, [cube.half_size_m] * 3
        body: int = pybullet.createMultiBody(
            baseMass=cube.mass_kg,
            baseCollisionShapeIndex=pybullet.createCollisionShape(
                pybullet.GEOM_BOX, halfExtents=half_sizes, physicsClientId=client
            ),
            baseVisualShapeIndex=pybullet.createVisualShape(
                pybullet.GEOM_BOX, halfExtents=half_sizes, rgbaColor=cube.rgba, physicsClientId=client
            ),
            basePosition=(0.5, 0.0, cube.half_size_m),
            physicsClientId=client,
        )
        pybullet.changeDynamics(
            body, -1, lateralFriction=1.0, linearDamping=0.0, angularDamping=0.0, physicsClientId=client
        )
        return body

    def _place(self, joint_pos: Vector) -> None:
        self._torque = np.zeros_like(self._damping)
        for joint, position in zip(self._joints, joint_pos.tolist(), strict=True):
            pybullet.resetJointState(self._body, joint, position, 0.0, physicsClientId=self._client)

    def _measure(self) -> tuple[Vector, Vector, Vector]:
        states = pybullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        return (
            np.array([state[0] for state in states]),
            np.array([state[1] for state in states]),
            self._torque,
        )

    def _servo(self, *, stiff: bool, damped: bool) -> None:
        self._stiff, self._damped = stiff, damped

    def _integrate(self, steps: int) -> None:
        body, client = self._body, self._client
        for _ in range(steps):
            self._torque = self._servo_torque()
            pybullet.setJointMotorControlArray(
                body,
                self._joints,
                pybullet.TORQUE_CONTROL,
                forces=self._torque.tolist(),
                physicsClientId=client,
            )
            pybullet.stepSimulation(physicsClientId=client)

    def _servo_torque(self) -> Vector:
        """The law of :class:`ServoArm`, its damping taken at the end of the step.

        ``(M + h D) q̈ = F + g − b`` predicts the acceleration under ``F = clip(K e − D q̇)``, where joints at
        their torque limit have no ``D``; ``τ = F − h D q̈ + g``. This is what MuJoCo's ``implicitfast``
        integrator does. Taken at the start of the step, the same damping would shake the arm wherever two
        joint axes come to lie in one line.
        """
        if not self._damped:
            return np.zeros_like(self._damping)
        body, client, zeros = self._body, self._client, self._zeros
        states = pybullet.getJointStates(body, self._joints, physicsClientId=client)
        joint_pos, joint_vel = [state[0] for state in states], [state[1] for state in states]
        bias = pybullet.calculateInverseDynamics(body, joint_pos, joint_vel, zeros, physicsClientId=client)
        inertia = np.array(pybullet.calculateMassMatrix(body, joint_pos, physicsClientId=client))
        torque: Vector = -self._damping * joint_vel
        if self._stiff:
            torque += self._stiffness * (self._reference - joint_pos)
        step_damping = self._step_damping * (np.abs(torque) < self._torque_max)
        torque = np.minimum(np.maximum(torque, -self._torque_max), self._torque_max)
        if self._stiff:
            torque += pybullet.calculateInverseDynamics(body, joint_pos, zeros, zeros, physicsClientId=client)
        inertia.ravel()[:: len(joint_pos) + 1] += step_damping
        torque -= step_damping * np.linalg.solve(inertia, torque - bias)
        return torque
