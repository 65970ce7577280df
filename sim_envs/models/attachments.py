"""Parts that a scene adds to the arm's URDF: a payload, a peg, flat pads on the fingers."""

from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.description import GripperDescription, RobotDescription
from wpg.sim_envs.models.scene import PEG_RGBA, Peg, Scene
from wpg.sim_envs.models.urdf_frames import numbers, set_origin, text_of

PAYLOAD = "payload"


def attach(
    root: Element, description: RobotDescription, scene: Scene, tool_link: str, tool_pose: NDArray[np.float64]
) -> None:
    """Add the scene's parts to a merged URDF; ``tool_pose`` (4, 4) is the tool's pose on ``tool_link``."""
    if scene.gripper and description.gripper is not None:
        _add_pads(root, description.gripper)
    if scene.peg is not None:
        _add_peg(root, scene.peg, tool_link, tool_pose)
    if scene.payload:
        _add_payload(root, tool_link, tool_pose)


def _add_pads(root: Element, gripper: GripperDescription) -> None:
    """Replace the fingers' meshes by boxes, whose flat faces hold an object at more than one point."""
    width, thickness, height = gripper.pad_size_m
    for name in gripper.joints or ():
        joint = root.find(f"joint[@name='{name}']")
        child = None if joint is None else joint.find("child")
        link = None if child is None else root.find(f"link[@name='{child.attrib['link']}']")
        if joint is None or link is None:
            continue  # the joints were checked when the file was read
        for mimic in joint.findall("mimic"):
            joint.remove(mimic)
        for shape in link.findall("collision"):
            link.remove(shape)
        axis = numbers(joint.find("axis"), "xyz", (1.0, 0.0, 0.0))
        pose = np.eye(4)
        pose[:3, 3] = axis * thickness / 2.0 + [0.0, 0.0, gripper.pad_height_m]
        size = np.array([width, width, height]) + np.abs(axis) * (thickness - width)
        shape = SubElement(link, "collision")
        set_origin(shape, pose)
        SubElement(SubElement(shape, "geometry"), "box", size=text_of(size))


def _add_peg(root: Element, peg: Peg, tool_link: str, tool_pose: NDArray[np.float64]) -> None:
    link = root.find(f"link[@name='{tool_link}']")
    if link is None:
        return
    pose = np.eye(4)
    pose[2, 3] = peg.length_m / 2.0
    for tag in ("visual", "collision"):
        shape = SubElement(link, tag)
        set_origin(shape, tool_pose @ pose)
        length = repr(peg.length_m - 2.0 * peg.radius_m)  # of the cylinder between the two half spheres
        SubElement(SubElement(shape, "geometry"), "capsule", radius=repr(peg.radius_m), length=length)
        if tag == "visual":
            material = SubElement(shape, "material", name="peg")
            SubElement(material, "color", rgba=text_of(np.array(PEG_RGBA)))


def _add_payload(root: Element, tool_link: str, tool_pose: NDArray[np.float64]) -> None:
    """Add a link of negligible mass, fixed to the tool."""
    link = SubElement(root, "link", name=PAYLOAD)
    inertial = SubElement(link, "inertial")
    SubElement(inertial, "mass", value="1e-9")
    moments = dict.fromkeys(("ixx", "iyy", "izz"), "1e-12") | dict.fromkeys(("ixy", "ixz", "iyz"), "0")
    SubElement(inertial, "inertia", moments)
    joint = SubElement(root, "joint", name=PAYLOAD, type="fixed")
    set_origin(joint, tool_pose)
    SubElement(joint, "parent", link=tool_link)
    SubElement(joint, "child", link=PAYLOAD)
