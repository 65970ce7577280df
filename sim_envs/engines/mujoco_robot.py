"""An arm in MuJoCo (Todorov, Erez and Tassa, IROS 2012)."""

import copy
from typing import Any

import mujoco
import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.effects import DrawnEffects
from wpg.sim_envs.engines.mujoco_model import compile_arm
from wpg.sim_envs.engines.mujoco_rendering import Offscreen, Window
from wpg.sim_envs.engines.servo_arm import ServoArm
from wpg.sim_envs.models.attachments import PAYLOAD
from wpg.sim_envs.models.scene import EMPTY, PAYLOAD_GYRATION_M, CubeState, Image, Marker, Scene
from wpg.sim_envs.models.urdf import gripper_joints


class MuJoCoRobot(ServoArm):
    """An arm whose servos are MuJoCo actuators."""

    def __init__(
        self,
        description: RobotDescription,
        *,
        visuals: bool = False,
        window: bool = False,
        scene: Scene = EMPTY,
    ) -> None:
        self._model = compile_arm(description, visuals=visuals, scene=scene)
        self._data = mujoco.MjData(self._model)
        self._tool = self._data.site("tool").xpos
        self._num_joints = n = description.num_joints
        self._fingers = slice(n, n + len(gripper_joints(description, scene)))
        self._object = self._fingers.stop  # the cube's coordinates follow the arm's
        self._compensated = self._model.body_gravcomp > 0  # the arm
        self._offscreen: Offscreen | None = None
        self._gravcomp = np.zeros(self._model.nbody)
        self._gravcomp[self._compensated] = 1.0
        self._pull = np.zeros((self._model.nbody, 6))
        self._nominal: Any = None
        self._vel_before = np.zeros(n)
        # Views are kept because every access to a field of the engine creates one.
        self._joint_pos, self._joint_vel = self._data.qpos[:n], self._data.qvel[:n]
        self._joint_torque, self._motor_force = self._data.qfrc_actuator[:n], self._data.actuator_force[:n]
        self._motor_damping = self._model.actuator_biasprm[:n, 2]
        super().__init__(description, self._data.ctrl[:n], scene)
        self._window = Window(self._model, self._data) if window else None

    def tool_position(self) -> Vector:
        """The tool's position according to the engine, (3,) m in the base frame."""
        mujoco.mj_kinematics(self._model, self._data)
        position: Vector = self._tool.copy()
        return position

    def place_cube(self, position_m: Vector, yaw_rad: float) -> None:
        """Put the cube at rest with its centre at ``position_m`` (3,)."""
        n = self._object
        self._data.qpos[n : n + 3] = position_m
        self._data.qpos[n + 3 :] = np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)
        self._data.qvel[n:] = 0.0

    def cube_state(self) -> CubeState:
        """Pose and velocity of the cube."""
        n = self._object
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, self._data.qpos[n + 3 :])
        return CubeState(
            position_m=self._data.qpos[n : n + 3].copy(),
            rotation=rotation.reshape(3, 3),
            velocity_m_s=self._data.qvel[n : n + 3].copy(),
        )

    def place_block(self, position_m: Vector) -> None:
        """Put the block with the hole so that the centre of its base is at ``position_m`` (3,)."""
        self._data.mocap_pos[0] = position_m

    def render(self, markers: tuple[Marker, ...]) -> Image:
        """Picture of the scene with the markers, (height, width, 3)."""
        if self._offscreen is None:
            self._offscreen = Offscreen(self._model)
        mujoco.mj_forward(self._model, self._data)
        return self._offscreen.draw(self._data, markers)

    def show(self, markers: tuple[Marker, ...]) -> None:
        """Update the window, with the markers in it."""
        if self._window is not None:
            mujoco.mj_forward(self._model, self._data)
            self._window.show(markers)

    def close(self) -> None:
        """Free the engine's memory. It never raises and may be called twice."""
        for picture in (self._offscreen, self._window):
            if picture is not None:
                picture.close()
        self._offscreen = self._window = None

    def _place(self, joint_pos: Vector) -> None:
        mujoco.mj_resetData(self._model, self._data)
        self._vel_before[:] = 0.0
        self._data.qpos[: self._num_joints] = joint_pos
        self._data.xfrc_applied[:] = self._pull

    def _measure(self) -> tuple[Vector, Vector, Vector]:
        joint_vel = self._joint_vel.copy()
        # Where the motor is below its limit, the integrator applies the damping at the end of the step.
        damping = (np.abs(self._motor_force) < self._torque_max) * self._motor_damping
        joint_torque = self._joint_torque + damping * (joint_vel - self._vel_before)
        return self._joint_pos.copy(), joint_vel, joint_torque

    def _switch_servo(self, *, stiff: bool, damped: bool) -> None:
        model = self._model
        n = self._num_joints
        model.actuator_gainprm[:n, 0] = self._stiffness * stiff
        model.actuator_biasprm[:n, 1] = -self._stiffness * stiff
        model.actuator_biasprm[:n, 2] = -self._damping * damped
        model.body_gravcomp[:] = self._gravcomp * stiff

    def _set_opening(self, opening_m: float) -> None:
        self._data.ctrl[self._fingers] = opening_m / 2.0

    def _opening(self) -> float:
        return float(self._data.qpos[self._fingers].sum())

    def _place_fingers(self, opening_m: float) -> None:
        self._data.qpos[self._fingers] = opening_m / 2.0

    def _set_friction(self, damping: Vector) -> None:
        self._model.dof_damping[: self._num_joints] = damping

    def _integrate(self, references: Vector, steps: int) -> None:
        model, data, reference, advance = self._model, self._data, self._reference, mujoco.mj_step
        for row in references[:-1]:
            reference[:] = row
            advance(model, data, steps)
        reference[:] = references[-1]
        if steps > 1:
            advance(model, data, steps - 1)
        self._vel_before[:] = self._joint_vel
        advance(model, data)

    def _apply_effects(self, effects: DrawnEffects) -> None:
        model, arm = self._model, self._compensated
        self._nominal = self._nominal or copy.copy(model)
        nominal = self._nominal
        model.actuator_forcerange[: self._num_joints] = np.stack(
            [-self._torque_max, self._torque_max], axis=1
        )
        model.dof_armature[: self._num_joints] = effects.armature_kg_m2
        factor = np.where(arm, effects.mass_factor, effects.object_mass_factor)
        turning = np.where(arm, effects.inertia_factor, 1.0)
        model.body_mass[:] = factor * nominal.body_mass
        model.body_inertia[:] = (factor * turning)[:, None] * nominal.body_inertia
        self._gravcomp[arm] = 1.0 / effects.mass_factor
        if effects.payload_kg:
            payload = model.body(PAYLOAD).id
            model.body_mass[payload] = effects.payload_kg
            model.body_inertia[payload] = effects.payload_kg * PAYLOAD_GYRATION_M**2
        table = model.geom("table").id
        model.geom_pos[table, 2] = effects.table_height_m
        model.geom_sameframe[table] = 0  # or MuJoCo would ignore its position, which was zero when compiled
        held = [number for number, body in enumerate(model.geom_bodyid) if model.body_dofnum[body] == 6]
        of_object = np.isin(model.pair_geom1, held) | np.isin(model.pair_geom2, held)
        slide = np.where(of_object, effects.object_friction_factor, 1.0)
        model.pair_friction[:, :2] = slide[:, None] * nominal.pair_friction[:, :2]
        mujoco.mj_setConst(model, self._data)
        # The tilt is a force and not another gravity, as gravity compensation must not know of it.
        tilt = effects.gravity_m_s2(-model.opt.gravity[2]) - model.opt.gravity
        self._pull[:, :3] = model.body_mass[:, None] * tilt
