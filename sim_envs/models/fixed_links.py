"""Joins the links of a URDF that are fixed to each other.

Engines differ in how they do this, and in what they make of inertias that no body can have; so both are
settled here, before an engine reads the file.
"""

from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from wpg.sim_envs.models.urdf_frames import carrier, joints_above, link_name, origin, set_origin

Tensor = NDArray[np.float64]


def merge_inertias(root: Element) -> None:
    """Give each moving link the mass of the links that are fixed to it; the base needs none."""
    above = joints_above(root)
    bodies: dict[str, list[tuple[float, Tensor, Tensor]]] = {}
    for link in root.findall("link"):
        name, pose = carrier(above, link.attrib["name"])
        body = bodies.setdefault(name, [])
        for inertial in link.findall("inertial"):
            if mass := _value(inertial, "mass", "value"):
                place = pose @ origin(inertial)
                body.append((mass, place[:3, 3], place[:3, :3] @ _tensor(inertial) @ place[:3, :3].T))
            link.remove(inertial)
    for link in root.findall("link"):
        name = link.attrib["name"]
        _write(link, *combine(bodies.get(name, []) if name in above else []))


def merge_shapes(root: Element) -> None:
    """Give each moving link the shapes of the links that are fixed to it, and drop those links."""
    above = joints_above(root)
    links = {link.attrib["name"]: link for link in root.findall("link")}
    for link in links.values():
        name, pose = carrier(above, link.attrib["name"])
        if links[name] is not link:
            for shape in [*link.findall("visual"), *link.findall("collision")]:
                set_origin(shape, pose @ origin(shape))
                links[name].append(shape)
            root.remove(link)
    for joint in [joint for joint in root.findall("joint") if joint.get("type") == "fixed"]:
        root.remove(joint)
    for joint in root.findall("joint"):
        _attach(joint, *carrier(above, link_name(joint, "parent")))


def _attach(joint: Element, name: str, pose: Tensor) -> None:
    set_origin(joint, pose @ origin(joint))
    for parent in joint.findall("parent"):
        parent.set("link", name)


def combine(bodies: list[tuple[float, Tensor, Tensor]]) -> tuple[float, Tensor, Tensor]:
    """Mass (kg), centre (3,) m and inertia (3, 3) kg m² about it, of bodies given the same way."""
    mass = sum(body[0] for body in bodies)
    if mass == 0.0:
        return 0.0, np.zeros(3), np.zeros((3, 3))
    center: Tensor = np.sum([one * place for one, place, _ in bodies], axis=0) / mass
    inertia = np.zeros((3, 3))
    for one, place, tensor in bodies:
        arm = place - center
        inertia += tensor + one * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return mass, center, inertia


def principal(inertia: Tensor) -> tuple[Tensor, Tensor]:
    """Moments (3,) and axes (3, 3, columns); moments that no body has are replaced by their mean.

    A body's moments are positive, and none is larger than the sum of the other two.
    """
    moments, axes = np.linalg.eigh(inertia)
    if moments[0] <= 0.0 or moments[0] + moments[1] < moments[2] * (1.0 - 1e-9):
        moments = np.full(3, moments.mean())
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    return moments, axes


def _value(inertial: Element, tag: str, attribute: str) -> float:
    element = inertial.find(tag)
    return 0.0 if element is None else float(element.get(attribute, "0"))


def _tensor(inertial: Element) -> Tensor:
    xx, yy, zz, xy, xz, yz = (
        _value(inertial, "inertia", name) for name in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
    )
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _write(link: Element, mass: float, center: Tensor, inertia: Tensor) -> None:
    moments, axes = principal(inertia) if mass else (np.zeros(3), np.eye(3))
    inertial = SubElement(link, "inertial")
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = axes, center
    set_origin(inertial, place)
    SubElement(inertial, "mass", value=repr(float(mass)))
    values = dict(zip(("ixx", "iyy", "izz"), map(repr, moments.tolist()), strict=True))
    SubElement(inertial, "inertia", values | dict.fromkeys(("ixy", "ixz", "iyz"), "0"))
