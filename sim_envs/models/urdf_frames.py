"""Frames of a URDF: reads and writes ``origin`` elements, and finds the moving link that carries a link."""

import math
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from wpg.export.kinematics import Frame


def joints_above(root: Element) -> dict[str, Element]:
    """Map each link's name to the joint that connects it to its parent."""
    return {
        link_name(joint, "child"): joint for joint in root.iter("joint") if joint.find("child") is not None
    }


def carrier(above: dict[str, Element], name: str) -> tuple[str, NDArray[np.float64]]:
    """Name of the moving link, or of the base, that a link is fixed to, and the link's pose (4, 4) on it."""
    pose = np.eye(4)
    while name in above and above[name].get("type") == "fixed":
        pose = origin(above[name]) @ pose
        name = link_name(above[name], "parent")
    return name, pose


def link_name(joint: Element, role: str) -> str:
    """Name of the joint's ``parent`` or ``child`` link."""
    found = joint.find(role)
    return "" if found is None else found.attrib["link"]


def origin(element: Element) -> NDArray[np.float64]:
    """Read the pose (4, 4) in an element's ``origin``."""
    found = element.find("origin")
    x, y, z = numbers(found, "xyz")
    roll, pitch, yaw = numbers(found, "rpy")
    return Frame(xyz_m=(x, y, z), rpy_rad=(roll, pitch, yaw)).matrix()


def set_origin(element: Element, pose: NDArray[np.float64]) -> None:
    """Write the pose (4, 4) as an element's ``origin``."""
    for found in element.findall("origin"):
        element.remove(found)
    SubElement(element, "origin", xyz=text_of(pose[:3, 3]), rpy=text_of(roll_pitch_yaw(pose[:3, :3])))


def numbers(
    element: Element | None, name: str, default: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> NDArray[np.float64]:
    """Read an attribute of three numbers."""
    words = None if element is None else element.get(name)
    return np.array(default if words is None else [float(word) for word in words.split()])


def text_of(values: NDArray[np.floating]) -> str:
    """Numbers (N,) as the text of an attribute, without loss of precision."""
    return " ".join(map(repr, values.tolist()))


def rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Matrix (3, 3) of a rotation about an axis, by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    matrix: NDArray[np.float64] = (
        np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
    )
    return matrix


def roll_pitch_yaw(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles (3,) about the fixed axes x, y, z of a rotation (3, 3)."""
    pitch = math.asin(max(-1.0, min(1.0, -matrix[2, 0])))
    if abs(matrix[2, 0]) > 1.0 - 1e-12:  # gimbal lock: yaw is free, so it is zero
        return np.array([math.atan2(-matrix[1, 2], matrix[1, 1]), pitch, 0.0])
    return np.array([math.atan2(matrix[2, 1], matrix[2, 2]), pitch, math.atan2(matrix[1, 0], matrix[0, 0])])
