"""Makes the description of an arm from its MJCF file alone."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import Frame
from wpg.hardware_bridge.description import JointDescription, RobotDescription, SimulationModel
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.models.mjcf import compile_mjcf, menagerie_path, mjcf_to_urdf
from wpg.sim_envs.models.urdf_frames import carrier, joints_above, link_name, numbers, origin, roll_pitch_yaw

TOOL_SITES = ("tool", "pinch", "attachment_site", "gripperframe", "ee_site", "end_effector")
"""Names of sites that mark the tool; the first one in the file is used."""
VELOCITY_RAD_S, ACCELERATION_RAD_S2, JERK_RAD_S3 = 1.0, 5.0, 500.0
"""Limits, chosen low, because MJCF has none."""
STIFFNESS_PER_RAD, DAMPING_S = 40.0, 0.05
"""Position gain divided by the torque limit, and velocity gain divided by the position gain."""


def describe(location: str) -> RobotDescription:
    """Describe the arm in an MJCF file, given by its path or as ``menagerie:NAME``.

    The arm is the longest chain of hinges. Other joints are fixed at their positions in the file's first
    keyframe, which also gives the home position. Ranges and torques come from the file; speeds,
    accelerations, jerks and servo gains are defaults for simulation.

    Raises:
        DescriptionError: the file cannot be read, or lacks something that an arm needs.
    """
    path = menagerie_path(location) if location.startswith("menagerie:") else Path(location)
    model, root = compile_mjcf(path), mjcf_to_urdf(path)
    above = joints_above(root)
    chain = max((_hinges(above, link.attrib["name"]) for link in root.findall("link")), key=len)
    if not chain:
        raise DescriptionError(f"{path}: expected hinge joints, found none")
    tool = _tool(root, above, chain[-1])
    names = [joint.attrib["name"] for joint in chain]
    start = model.key_qpos[0] if model.nkey else model.qpos0
    stands = {
        model.joint(number).name: float(start[model.jnt_qposadr[number]]) for number in range(model.njnt)
    }
    joints = tuple(_joint(model, path, above, joint, stands[joint.attrib["name"]]) for joint in chain)
    _, place = carrier(above, tool)
    torques = np.array([joint.torque_max_nm for joint in joints])
    return RobotDescription(
        name=location.removeprefix("menagerie:").partition("/")[0] if ":" in location else path.stem,
        title=path.stem,
        source=f"{location} (frames, ranges, torques); speeds, accelerations, jerks and gains are ours",
        protocol="native",
        servo_rate_hz=200.0,
        watchdog_s=0.05,
        joints=joints,
        tool=_frame(place),
        simulation=SimulationModel(
            model=str(path),
            base_link=link_name(chain[0], "parent"),
            tool_link=tool,
            fixed_joints_rad={name: value for name, value in stands.items() if name not in names},
            stiffness_nm_rad=tuple((STIFFNESS_PER_RAD * torques).tolist()),
            damping_nm_s_rad=tuple((DAMPING_S * STIFFNESS_PER_RAD * torques).tolist()),
            step_s=0.005,
        ),
    )


def _hinges(above: dict[str, Element], link: str) -> list[Element]:
    """The hinges from the base to a link."""
    found: list[Element] = []
    while link in above:
        if above[link].get("type") == "revolute":
            found.insert(0, above[link])
        link = link_name(above[link], "parent")
    return found


def _tool(root: Element, above: dict[str, Element], last: Element) -> str:
    """Name of the tool's link: a known site fixed to the last link, else the furthest frame fixed to it."""
    end = link_name(last, "child")
    fixed = [name for name in above if carrier(above, name)[0] == end]
    named = [name for name in TOOL_SITES if name in fixed]
    furthest = max(fixed, key=lambda name: float(np.linalg.norm(carrier(above, name)[1][:3, 3])))
    return named[0] if named else furthest


def _joint(
    model: Any, path: Path, above: dict[str, Element], joint: Element, home_rad: float
) -> JointDescription:
    name = joint.attrib["name"]
    number = model.joint(name).id
    _, place = carrier(above, link_name(joint, "parent"))
    low, high = model.jnt_range[number] if model.jnt_limited[number] else (-2 * np.pi, 2 * np.pi)
    x, y, z = numbers(joint.find("axis"), "xyz").tolist()
    return JointDescription(
        name=name,
        frame=_frame(place @ origin(joint)),
        axis=(x, y, z),
        position_min_rad=float(low),
        position_max_rad=float(high),
        velocity_max_rad_s=VELOCITY_RAD_S,
        acceleration_max_rad_s2=ACCELERATION_RAD_S2,
        jerk_max_rad_s3=JERK_RAD_S3,
        torque_max_nm=_torque_max(model, path, name, number),
        home_rad=float(np.clip(home_rad, low, high)),
    )


def _torque_max(model: Any, path: Path, name: str, number: int) -> float:
    limits = [model.jnt_actfrcrange[number][1]] if model.jnt_actfrclimited[number] else []
    for actuator in range(model.nu):
        on_joint = model.actuator_trntype[actuator] == 0 and model.actuator_trnid[actuator][0] == number
        if on_joint and model.actuator_forcelimited[actuator]:
            limits.append(model.actuator_forcerange[actuator][1])
    if not limits:
        raise DescriptionError(
            f"{path}: joint {name!r}: expected a torque limit (actuatorfrcrange or forcerange), found none: "
            "describe the arm in a .toml file"
        )
    return float(min(limits))


def _frame(pose: NDArray[np.float64]) -> Frame:
    x, y, z = pose[:3, 3].tolist()
    roll, pitch, yaw = roll_pitch_yaw(pose[:3, :3]).tolist()
    return Frame(xyz_m=(x, y, z), rpy_rad=(roll, pitch, yaw))
