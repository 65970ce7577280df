"""Reads arms in MuJoCo's own format, MJCF, and converts them to URDF."""

import functools
import importlib
import math
import tempfile
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import mujoco
import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.models.urdf_frames import set_origin, text_of

JOINT_TYPES = {int(mujoco.mjtJoint.mjJNT_HINGE): "revolute", int(mujoco.mjtJoint.mjJNT_SLIDE): "prismatic"}
WORLD = "world"


def compile_mjcf(path: Path) -> Any:
    """Compile a file with MuJoCo.

    Raises:
        DescriptionError: the file cannot be read.
    """
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise DescriptionError(f"{path}: no readable MJCF: {' '.join(str(error).split())}") from error


def menagerie_path(location: str) -> Path:
    """The file of ``menagerie:NAME`` or ``menagerie:NAME/ENTRY``; it is downloaded if necessary.

    Raises:
        DescriptionError: the package mujoco-menagerie is not installed, does not know the robot, or cannot
            download it.
    """
    name, _, entry = location.removeprefix("menagerie:").partition("/")
    try:
        menagerie = importlib.import_module("mujoco_menagerie")
    except ImportError as error:
        raise DescriptionError(f"{location}: needs pip install mujoco-menagerie") from error
    try:
        robot = menagerie.get(name)
        return Path(robot.xml(entry or robot.default_model))
    except menagerie.MenagerieError as error:
        raise DescriptionError(f"{location}: {' '.join(str(error).split())}") from error


def mjcf_to_urdf(path: Path) -> Element:
    """Convert bodies, joints, inertias, shapes and sites of an MJCF file to URDF; its root link is ``world``.

    Joints and sites keep their names; a site becomes a link without mass. Actuators, contacts, tendons and
    equalities are left out, as descriptions and scenes define them.

    Raises:
        DescriptionError: the file cannot be read, or has a joint or a shape that does not exist in URDF.
    """
    return _Conversion(path).urdf()


class _Conversion:
    """The conversion of one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, compile_mjcf(path)
        bodies = range(1, self.model.nbody)
        self.names = [WORLD, *(self.model.body(body).name or f"body{body}" for body in bodies)]
        self.shifts = np.zeros((self.model.nbody, 3))
        """Origin of each link's frame on its body: URDF puts it in the joint, MJCF need not."""

    def urdf(self) -> Element:
        """Convert the whole file."""
        root = Element("robot", name=self.path.stem)
        SubElement(root, "link", name=WORLD)
        for body in range(1, self.model.nbody):
            root.append(self.joint(body))
            root.append(self.link(body))
        for site in range(self.model.nsite):
            name, body = self.model.site(site).name, self.model.site_bodyid[site]
            if name and name not in self.names:
                SubElement(root, "link", name=name)
                place = _pose(self.model.site_pos[site] - self.shifts[body], self.model.site_quat[site])
                root.append(_joint_element(f"site {name}", "fixed", self.names[body], name, place))
        return root

    def joint(self, body: int) -> Element:
        """Convert the joint that connects a body to its parent; also sets the body's shift."""
        model, names = self.model, self.names
        parent, count = model.body_parentid[body], model.body_jntnum[body]
        place = _pose(model.body_pos[body] - self.shifts[parent], model.body_quat[body])
        if count == 0:
            return _joint_element(f"above {names[body]}", "fixed", names[parent], names[body], place)
        number = model.body_jntadr[body]
        name, kind = model.joint(number).name, JOINT_TYPES.get(int(model.jnt_type[number]))
        if kind is None or count > 1:
            found = f"{count} joints" if count > 1 else f"joint {name!r} of another kind"
            raise DescriptionError(
                f"{self.path}: body {names[body]}: expected one hinge or slide at most, found {found}"
            )
        if model.qpos0[model.jnt_qposadr[number]] != 0.0:
            raise DescriptionError(f"{self.path}: joint {name!r}: expected ref 0, found another")
        self.shifts[body] = model.jnt_pos[number]
        place[:3, 3] += place[:3, :3] @ self.shifts[body]
        joint = _joint_element(name, kind, names[parent], names[body], place)
        SubElement(joint, "axis", xyz=text_of(model.jnt_axis[number]))
        low, high = model.jnt_range[number] if model.jnt_limited[number] else (-2 * math.pi, 2 * math.pi)
        ends = {"lower": repr(float(low)), "upper": repr(float(high))}
        SubElement(joint, "limit", ends, effort="0", velocity="0")
        return joint

    def link(self, body: int) -> Element:
        """Convert mass and shapes of a body."""
        model, link = self.model, Element("link", name=self.names[body])
        inertial = SubElement(link, "inertial")
        set_origin(inertial, _pose(model.body_ipos[body] - self.shifts[body], model.body_iquat[body]))
        SubElement(inertial, "mass", value=repr(float(model.body_mass[body])))
        x, y, z = map(repr, model.body_inertia[body].tolist())
        SubElement(inertial, "inertia", ixx=x, iyy=y, izz=z, ixy="0", ixz="0", iyz="0")
        geoms = range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])
        solid = [geom for geom in geoms if model.geom_contype[geom] or model.geom_conaffinity[geom]]
        seen = [geom for geom in geoms if geom not in solid] or solid
        for tag, members in (("visual", seen), ("collision", solid)):
            for geom in members:
                shape = SubElement(link, tag)
                set_origin(shape, _pose(model.geom_pos[geom] - self.shifts[body], model.geom_quat[geom]))
                self.geometry(SubElement(shape, "geometry"), geom)
                if tag == "visual":
                    material = model.geom_matid[geom]
                    rgba = model.geom_rgba[geom] if material < 0 else model.mat_rgba[material]
                    SubElement(SubElement(shape, "material", name=f"geom{geom}"), "color", rgba=text_of(rgba))
        return link

    def geometry(self, geometry: Element, geom: int) -> None:
        """Add a geom's shape to a ``geometry`` element."""
        a, b, _ = self.model.geom_size[geom].tolist()
        match mujoco.mjtGeom(int(self.model.geom_type[geom])):
            case mujoco.mjtGeom.mjGEOM_SPHERE:
                SubElement(geometry, "sphere", radius=repr(a))
            case mujoco.mjtGeom.mjGEOM_CAPSULE:
                SubElement(geometry, "capsule", radius=repr(a), length=repr(2 * b))
            case mujoco.mjtGeom.mjGEOM_CYLINDER:
                SubElement(geometry, "cylinder", radius=repr(a), length=repr(2 * b))
            case mujoco.mjtGeom.mjGEOM_BOX:
                SubElement(geometry, "box", size=text_of(2 * self.model.geom_size[geom]))
            case mujoco.mjtGeom.mjGEOM_MESH:
                file = _mesh_file(self.model, self.model.geom_dataid[geom], self.path)
                SubElement(geometry, "mesh", filename=str(file))
            case other:
                kind = other.name.removeprefix("mjGEOM_").lower()
                raise DescriptionError(f"{self.path}: geom {geom}: expected no {kind} on an arm, found one")


def _joint_element(name: str, kind: str, parent: str, child: str, place: NDArray[np.float64]) -> Element:
    joint = Element("joint", name=name, type=kind)
    set_origin(joint, place)
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=child)
    return joint


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """The folder for mesh files; it is deleted when the program ends."""
    return tempfile.TemporaryDirectory(prefix="wpg-meshes-")


def _mesh_file(model: Any, mesh: int, path: Path) -> Path:
    """Write a mesh as MuJoCo has aligned it; each mesh is written once in a program."""
    vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
    faces = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    text = "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in vertices.tolist())
    text += "".join(f"f {a} {b} {c}\n" for a, b, c in (faces + 1).tolist())
    target = Path(_folder().name) / f"{path.stem}-{mesh}-{hash(text):x}.obj"
    if not target.exists():
        target.write_text(text)
    return target


def _pose(position: NDArray[np.float64], quat_wxyz: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, np.ascontiguousarray(quat_wxyz))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.reshape(3, 3), position
    return pose
