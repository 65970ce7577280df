"""The robot's URDF made ready for any engine: meshes found, unused joints welded."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import Frame
from wpg.hardware_bridge.description import RobotDescription, SimulationModel
from wpg.hardware_bridge.errors import DescriptionError

Element = ElementTree.Element


@dataclass(frozen=True, kw_only=True)
class ArmModel:
    """What an engine needs to load an arm."""

    urdf: str
    """The text, with absolute mesh paths; its only moving joints are the description's."""
    tool_link: str
    """The link at the tool."""
    tool_parent: str
    """The moving link that carries the tool."""
    tool_offset_m: NDArray[np.float64]
    """(3,) the tool in the frame of ``tool_parent``."""


def simulation_model(description: RobotDescription) -> SimulationModel:
    """The description's ``[simulation]`` table.

    Raises:
        DescriptionError: it has none.
    """
    if description.simulation is None:
        raise DescriptionError(f"robot {description.name} cannot be simulated: it has no [simulation] table")
    return description.simulation


def load_arm(description: RobotDescription) -> ArmModel:
    """Read and prepare the URDF that a description names.

    Raises:
        DescriptionError: the file cannot be read, or its joints are not the description's.
    """
    model = simulation_model(description)
    path = resolve_path(model.urdf)
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DescriptionError(f"{path}: no readable URDF: {error}") from error
    _check_joints(root, description, path)
    for joint in root.iter("joint"):
        if joint.get("name") in model.fixed_joints_rad:
            _weld(joint, model.fixed_joints_rad[joint.attrib["name"]])
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(_mesh_path(mesh.attrib["filename"], path)))
    _drop_massless_inertia(root)
    parent, offset = _carrier(root, model.tool_link, path)
    return ArmModel(
        urdf=ElementTree.tostring(root, encoding="unicode"),
        tool_link=model.tool_link,
        tool_parent=parent,
        tool_offset_m=offset,
    )


def resolve_path(location: str) -> Path:
    """Turn ``package:path`` or a plain path into a path.

    Raises:
        DescriptionError: the package is not installed.
    """
    package, colon, inside = location.partition(":")
    if not colon:
        return Path(location)
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name = package.removesuffix("_data")
        raise DescriptionError(f"{location}: package {package} is not installed: pip install {name}")
    return Path(found.submodule_search_locations[0]) / inside


def _mesh_path(name: str, urdf: Path) -> Path:
    """``package://`` counts from the URDF's folder or from one above it."""
    inside = name.removeprefix("package://")
    folders = (urdf.parent, *urdf.parent.parents[:2])
    for folder in folders:
        if (folder / inside).is_file():
            return (folder / inside).resolve()
    raise DescriptionError(f"{urdf}: mesh {name} found neither in {folders[0]} nor above it")


def _check_joints(root: Element, description: RobotDescription, path: Path) -> None:
    moving = [
        joint.attrib["name"] for joint in root.iter("joint") if joint.get("type") not in ("fixed", None)
    ]
    fixed = simulation_model(description).fixed_joints_rad
    for name in (*description.joint_names, *fixed):
        if name not in moving:
            raise DescriptionError(f"{path}: has no moving joint {name!r}; it has {', '.join(moving)}")
    left = [name for name in moving if name not in fixed]
    if left != list(description.joint_names):
        raise DescriptionError(
            f"{path}: expected the moving joints {', '.join(description.joint_names)} in this order, "
            f"found {', '.join(left)}; name the others in simulation.fixed_joints_rad"
        )


def _weld(joint: Element, value: float) -> None:
    """Fix a joint at ``value`` (rad or m)."""
    matrix = _origin(joint)
    axis = _numbers(joint.find("axis"), "xyz", (1.0, 0.0, 0.0))
    if joint.get("type") == "prismatic":
        matrix[:3, 3] += matrix[:3, :3] @ axis * value
    else:
        matrix[:3, :3] = matrix[:3, :3] @ _rotation(axis, value)
    joint.set("type", "fixed")
    for tag in ("axis", "limit", "mimic", "dynamics", "safety_controller", "origin"):
        for child in joint.findall(tag):
            joint.remove(child)
    ElementTree.SubElement(
        joint, "origin", xyz=_text(matrix[:3, 3]), rpy=_text(_roll_pitch_yaw(matrix[:3, :3]))
    )


def _drop_massless_inertia(root: Element) -> None:
    """Engines disagree about a link that has inertia but no mass; such links only mark a place."""
    for inertial in root.iter("inertial"):
        mass, inertia = inertial.find("mass"), inertial.find("inertia")
        if mass is not None and inertia is not None and float(mass.attrib["value"]) == 0.0:
            inertia.attrib.update(dict.fromkeys(inertia.attrib, "0"))


def _carrier(root: Element, link: str, path: Path) -> tuple[str, NDArray[np.float64]]:
    """The moving link that a link is fixed to, and the link's place on it."""
    above = {_link(joint, "child"): joint for joint in root.iter("joint") if joint.find("child") is not None}
    if link not in above:
        raise DescriptionError(f"{path}: simulation.tool_link {link!r} is no link below a joint")
    pose = np.eye(4)
    while above[link].get("type") == "fixed":
        pose = _origin(above[link]) @ pose
        link = _link(above[link], "parent")
    return link, pose[:3, 3]


def _link(joint: Element, role: str) -> str:
    found = joint.find(role)
    return "" if found is None else found.attrib["link"]


def _origin(joint: Element) -> NDArray[np.float64]:
    origin = joint.find("origin")
    x, y, z = _numbers(origin, "xyz")
    roll, pitch, yaw = _numbers(origin, "rpy")
    return Frame(xyz_m=(x, y, z), rpy_rad=(roll, pitch, yaw)).matrix()


def _numbers(
    element: Element | None, name: str, default: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> NDArray[np.float64]:
    text = None if element is None else element.get(name)
    return np.array(default if text is None else [float(word) for word in text.split()])


def _text(values: NDArray[np.float64]) -> str:
    return " ".join(map(repr, values.tolist()))


def _rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation: NDArray[np.float64] = (
        np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
    )
    return rotation


def _roll_pitch_yaw(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    pitch = math.asin(max(-1.0, min(1.0, -rotation[2, 0])))
    if abs(rotation[2, 0]) > 1.0 - 1e-12:  # gimbal lock: yaw is free, so it is zero
        return np.array([math.atan2(-rotation[1, 2], rotation[1, 1]), pitch, 0.0])
    return np.array(
        [math.atan2(rotation[2, 1], rotation[2, 2]), pitch, math.atan2(rotation[1, 0], rotation[0, 0])]
    )
