"""Prepares a robot's URDF for any engine: finds meshes, welds unused joints, merges fixed links."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.description import RobotDescription, SimulationModel
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.models.attachments import attach
from wpg.sim_envs.models.fixed_links import merge_inertias, merge_shapes
from wpg.sim_envs.models.scene import EMPTY, Scene
from wpg.sim_envs.models.urdf_frames import carrier, joints_above, numbers, origin, rotation, set_origin


@dataclass(frozen=True, kw_only=True)
class ArmModel:
    """The prepared model of an arm, as an engine needs it."""

    urdf: str
    """The text, with absolute mesh paths; its joints and links are those of the description only."""
    base_link: str
    """The link that does not move."""
    tool_link: str
    """The moving link that carries the tool."""
    tool_offset_m: NDArray[np.float64]
    """Position of the tool in the frame of ``tool_link``, (3,)."""


def simulation_model(description: RobotDescription) -> SimulationModel:
    """The description's ``[simulation]`` table.

    Raises:
        DescriptionError: the description has none.
    """
    if description.simulation is None:
        raise DescriptionError(f"robot {description.name} cannot be simulated: it has no [simulation] table")
    return description.simulation


def load_arm(description: RobotDescription, scene: Scene = EMPTY) -> ArmModel:
    """Read and prepare the model that a description names.

    Raises:
        DescriptionError: the file cannot be read, its joints differ from the description's, or the scene
            needs a gripper and the robot has none.
    """
    model = simulation_model(description)
    path = resolve_path(model.model)
    root = _read(path)
    fingers = gripper_joints(description, scene)
    _check_joints(root, description, path)
    for joint in root.iter("joint"):
        if joint.get("name") in model.fixed_joints_rad and joint.get("name") not in fingers:
            _weld(joint, model.fixed_joints_rad[joint.attrib["name"]])
    for joint in root.iter("joint"):  # the only damping is the servo's in the description
        for dynamics in joint.findall("dynamics"):
            joint.remove(dynamics)
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(_mesh_path(mesh.attrib["filename"], path)))
    above = joints_above(root)
    for name in (model.base_link, model.tool_link):
        if name is not None and root.find(f"link[@name='{name}']") is None:
            raise DescriptionError(f"{path}: has no link {name!r}")
    if model.tool_link is not None:
        tool_link, tool_pose = carrier(above, model.tool_link)
    else:
        last = description.joint_names[-1]
        tool_link = next(link for link, joint in above.items() if joint.get("name") == last)
        tool_pose = description.tool.matrix()
    base_link, _ = carrier(above, model.base_link)
    merge_inertias(root)
    merge_shapes(root)
    attach(root, description, scene, tool_link, tool_pose)
    return ArmModel(
        urdf=ElementTree.tostring(root, encoding="unicode"),
        base_link=base_link,
        tool_link=tool_link,
        tool_offset_m=tool_pose[:3, 3],
    )


def gripper_joints(description: RobotDescription, scene: Scene) -> tuple[str, ...]:
    """Names of the fingers' joints; none if the scene has no moving gripper.

    Raises:
        DescriptionError: the scene needs a gripper but the robot or its model has none.
    """
    if not scene.gripper:
        return ()
    if description.gripper is None:
        raise DescriptionError(f"robot {description.name} cannot grasp: it has no [gripper] table")
    if description.gripper.joints is None:
        raise DescriptionError(
            f"robot {description.name} cannot grasp: its [gripper] names no joints of the model"
        )
    return description.gripper.joints


def resolve_path(location: str) -> Path:
    """Turn ``package:path``, ``menagerie:NAME`` or a plain path into a path.

    Raises:
        DescriptionError: the package is not installed, or the robot is unknown or cannot be downloaded.
    """
    if location.startswith("menagerie:"):
        from wpg.sim_envs.models.mjcf import menagerie_path  # noqa: PLC0415  needs MuJoCo

        return menagerie_path(location)
    package, colon, inside = location.partition(":")
    if not colon:
        return Path(location)
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name = package.removesuffix("_data")
        raise DescriptionError(f"{location}: package {package} is not installed: pip install {name}")
    return Path(found.submodule_search_locations[0]) / inside


def _read(path: Path) -> Element:
    if path.suffix == ".xml":
        if importlib.util.find_spec("mujoco") is None:
            raise DescriptionError(f"{path}: MJCF needs MuJoCo: pip install mujoco")
        from wpg.sim_envs.models.mjcf import mjcf_to_urdf  # noqa: PLC0415  needs MuJoCo

        return mjcf_to_urdf(path)
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DescriptionError(f"{path}: no readable URDF: {error}") from error


def _mesh_path(name: str, urdf: Path) -> Path:
    """Find a mesh; ``package://`` is relative to the URDF's folder or to one of the two above it."""
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
    matrix = origin(joint)
    axis = numbers(joint.find("axis"), "xyz", (1.0, 0.0, 0.0))
    if joint.get("type") == "prismatic":
        matrix[:3, 3] += matrix[:3, :3] @ axis * value
    else:
        matrix[:3, :3] = matrix[:3, :3] @ rotation(axis, value)
    joint.set("type", "fixed")
    for tag in ("axis", "limit", "mimic", "safety_controller"):
        for child in joint.findall(tag):
            joint.remove(child)
    set_origin(joint, matrix)
