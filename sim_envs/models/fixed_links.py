"""Merges the links of a URDF that are fixed to each other.

Engines differ in how they merge links, and in how they treat inertias that no body can have. Both are
therefore settled here, before an engine reads the file.
"""

from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from wpg.sim_envs.models.urdf_frames import carrier, joints_above, link_name, origin, set_origin

Tensor = NDArray[np.float64]


def merge_inertias(root: Element) -> None:
    """Add to each moving link the inertia of the links fixed to it; the base gets no mass."""
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
    """Add to each moving link the shapes of the links fixed to it, and remove those links."""
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
    """Combine bodies, each given by mass (kg), centre (3,) m and inertia (3, 3) kg m² about its centre."""
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
    """Principal moments (3,) and axes (3, 3), in columns, of an inertia.

    The moments of a body are positive, and none is larger than the sum of the other two. Moments that violate
    this are replaced by their mean.
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
