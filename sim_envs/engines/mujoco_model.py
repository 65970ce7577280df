"""Compiles an arm and the objects around it into a MuJoCo model."""

from typing import Any

import mujoco

from wpg.hardware_bridge.description import RobotDescription
from wpg.sim_envs.engines.mujoco_rendering import SEEN, UNSEEN, add_visuals
from wpg.sim_envs.models.attachments import PAYLOAD
from wpg.sim_envs.models.scene import (
    ARM_FRICTION,
    BLOCK_RGBA,
    GRIPPER_DAMPING_N_S_M,
    GRIPPER_STIFFNESS_N_M,
    HOLE_FRICTION,
    TABLE_FRICTION,
    Peg,
    Scene,
)
from wpg.sim_envs.models.urdf import gripper_joints, load_arm, simulation_model

COMPILER = '<mujoco><compiler strippath="false" discardvisual="{}"/></mujoco></robot>'


def compile_arm(description: RobotDescription, *, visuals: bool, scene: Scene) -> Any:
    """Compile the model; its coordinates are the arm's joints in order, then the fingers, then the cube."""
    arm = load_arm(description, scene)
    compiler = COMPILER.format("false" if visuals else "true")
    spec = mujoco.MjSpec.from_string(arm.urdf.replace("</robot>", compiler))
    spec.option.timestep = simulation_model(description).step_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.body(arm.tool_link).add_site(name="tool", pos=arm.tool_offset_m)
    for body in spec.bodies:
        body.gravcomp = 1.0
    if scene.payload:
        spec.compiler.fusestatic = False
        spec.body(PAYLOAD).gravcomp = 0.0
    for joint in description.joints:
        _add_servo(spec, joint.name, joint.torque_max_nm)
    for name in gripper_joints(description, scene):
        _add_finger(spec, name, description)
    if visuals:
        add_visuals(spec)
    _add_scene(spec, arm.base_link, scene)
    return spec.compile()


def _add_scene(spec: Any, base_link: str, scene: Scene) -> None:
    """Add table and objects, which the arm touches, while it does not touch itself.

    Contacts are possible between named pairs only, which costs less than MuJoCo's search for them.
    """
    shapes = [geom for geom in spec.geoms if geom.contype]
    for number, geom in enumerate(shapes):
        geom.name = f"shape{number}"
        geom.contype = geom.conaffinity = 0
    moving = [geom.name for geom in shapes if geom.parent.name != base_link]
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[2.0, 2.0, 0.1],
        contype=0,
        conaffinity=0,
        group=UNSEEN,
    )
    for name in moving:
        _add_contact(spec, name, "table", TABLE_FRICTION)
    if scene.peg is not None:
        _add_block(spec, scene.peg, moving)
    if scene.cube is not None:
        cube = scene.cube
        body = spec.worldbody.add_body(name="cube", pos=[0.5, 0.0, cube.half_size_m])
        body.add_freejoint()
        body.add_geom(
            name="cube",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[cube.half_size_m] * 3,
            mass=cube.mass_kg,
            rgba=cube.rgba,
            group=SEEN,
            contype=0,
            conaffinity=0,
        )
        _add_contact(spec, "cube", "table", TABLE_FRICTION)
        for name in moving:
            _add_contact(spec, name, "cube", ARM_FRICTION)


def _add_block(spec: Any, peg: Peg, moving: list[str]) -> None:
    body = spec.worldbody.add_body(name="block", mocap=True)
    for number, (center, half_size) in enumerate(peg.walls()):
        name = f"wall{number}"
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=center,
            size=half_size,
            rgba=BLOCK_RGBA,
            group=SEEN,
            contype=0,
            conaffinity=0,
        )
        for other in moving:
            _add_contact(spec, other, name, HOLE_FRICTION)


def _add_contact(spec: Any, first: str, second: str, friction: float) -> None:
    pair = spec.add_pair(geomname1=first, geomname2=second)
    pair.friction[:2] = friction


def _add_servo(spec: Any, joint: str, torque_max_nm: float) -> None:
    element = spec.joint(joint)
    element.actgravcomp = True
    element.actfrclimited = False  # the file's limit would include the compensation of gravity
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=1.0, kv=1.0)
    actuator.forcelimited = True
    actuator.forcerange = [-torque_max_nm, torque_max_nm]


def _add_finger(spec: Any, joint: str, description: RobotDescription) -> None:
    force_n = description.gripper.force_n if description.gripper is not None else 0.0
    spec.joint(joint).actfrclimited = False
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=GRIPPER_STIFFNESS_N_M, kv=GRIPPER_DAMPING_N_S_M)
    actuator.forcelimited = True
    actuator.forcerange = [-force_n, force_n]
