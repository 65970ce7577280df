"""An arm in MuJoCo (Todorov, Erez and Tassa, IROS 2012)."""

from typing import Any

import mujoco
import numpy as np

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.sim_envs.mujoco_looks import Offscreen, add_looks
from wpg.sim_envs.scene import TABLE_FRICTION, Image, Marker
from wpg.sim_envs.servo import ServoArm
from wpg.sim_envs.urdf import load_arm, simulation_model

COMPILER = '<mujoco><compiler strippath="false" discardvisual="{}"/></mujoco></robot>'


class MuJoCoRobot(ServoArm):
    """An arm whose servos are MuJoCo actuators."""

    def __init__(self, description: RobotDescription, *, visuals: bool = False) -> None:
        self._model = _compile(description, visuals)
        self._data = mujoco.MjData(self._model)
        self._tool = self._data.site("tool").xpos
        self._offscreen: Offscreen | None = None
        model = simulation_model(description)
        self._stiffness = np.array(model.stiffness_nm_rad)
        self._damping = np.array(model.damping_nm_s_rad)
        super().__init__(description, self._data.ctrl)

    def tool_position(self) -> Vector:
        """Where the engine says the tool is, (3,) m in the base frame."""
        mujoco.mj_kinematics(self._model, self._data)
        position: Vector = self._tool.copy()
        return position

    def render(self, markers: tuple[Marker, ...]) -> Image:
        """The scene with these markers in it, (height, width, 3)."""
        if self._offscreen is None:
            self._offscreen = Offscreen(self._model)
        mujoco.mj_forward(self._model, self._data)
        return self._offscreen.draw(self._data, markers)

    def close(self) -> None:
        """Free the engine's memory. Never raises; harmless when called twice."""
        if self._offscreen is not None:
            self._offscreen.close()
        self._offscreen = None

    def _place(self, joint_pos: Vector) -> None:
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = joint_pos

    def _measure(self) -> tuple[Vector, Vector, Vector]:
        data = self._data
        return data.qpos.copy(), data.qvel.copy(), data.qfrc_actuator.copy()

    def _servo(self, *, stiff: bool, damped: bool) -> None:
        model = self._model
        model.actuator_gainprm[:, 0] = self._stiffness * stiff
        model.actuator_biasprm[:, 1] = -self._stiffness * stiff
        model.actuator_biasprm[:, 2] = -self._damping * damped
        model.body_gravcomp[1:] = float(stiff)

    def _integrate(self, steps: int) -> None:
        mujoco.mj_step(self._model, self._data, nstep=steps)


def _compile(description: RobotDescription, visuals: bool) -> Any:
    arm = load_arm(description)
    compiler = COMPILER.format("false" if visuals else "true")
    spec = mujoco.MjSpec.from_string(arm.urdf.replace("</robot>", compiler))
    spec.option.timestep = simulation_model(description).step_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.body(arm.tool_link).add_site(name="tool")
    for body in spec.bodies:
        body.gravcomp = 1.0
    for joint in description.joints:
        _add_servo(spec, joint.name, joint.torque_max_nm)
    if visuals:
        add_looks(spec)
    _add_table(spec, simulation_model(description).base_link)
    return spec.compile()


def _add_table(spec: Any, base_link: str) -> None:
    """The arm touches the table, not itself: named pairs cost a fifth of what MuJoCo's own search costs."""
    shapes = [geom for geom in spec.geoms if geom.contype]
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[2.0, 2.0, 0.1],
        contype=0,
        conaffinity=0,
        group=3,
    )
    for number, geom in enumerate(shapes):
        geom.name = f"shape{number}"
        geom.contype = geom.conaffinity = 0
        if geom.parent.name != base_link:
            pair = spec.add_pair(geomname1=geom.name, geomname2="table")
            pair.friction[:2] = TABLE_FRICTION


def _add_servo(spec: Any, joint: str, torque_max_nm: float) -> None:
    element = spec.joint(joint)
    element.actgravcomp = True
    element.actfrclimited = False  # the file's limit would count the compensation of gravity
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=1.0, kv=1.0)
    actuator.forcelimited = True
    actuator.forcerange = [-torque_max_nm, torque_max_nm]
