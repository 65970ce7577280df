"""Appearance of an arm in MuJoCo, and pictures of it, with or without a screen."""

import os
import sys
import threading
import weakref
from importlib import import_module
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from wpg.sim_envs.engines.display import require_display
from wpg.sim_envs.errors import RenderError, WindowClosed
from wpg.sim_envs.models.meshes import obj_parts
from wpg.sim_envs.models.scene import BACKGROUND_RGB, CAMERA, LIGHT_FROM, TABLE, Image, Marker

BACKENDS = ("egl", "osmesa")
SEEN, UNSEEN = 1, 3
"""Geom groups; by default MuJoCo draws groups 0 to 2 only."""


def add_visuals(spec: Any) -> None:
    """Colour the arm's visual shapes, hide its collision shapes, add table, light and background."""
    for number, geom in enumerate(list(spec.geoms)):
        if geom.contype:
            geom.group = UNSEEN
        else:
            geom.group = SEEN
            _colour(spec, geom, f"part{number}")
    used = {geom.meshname for geom in spec.geoms}
    for mesh in [mesh for mesh in spec.meshes if mesh.name not in used]:
        spec.delete(mesh)
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=TABLE.center_m,
        size=TABLE.half_size_m,
        rgba=TABLE.rgba,
        group=SEEN,
        contype=0,
        conaffinity=0,
    )
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=LIGHT_FROM,
        dir=[-value for value in LIGHT_FROM],
        diffuse=[0.42] * 3,
        specular=[0.2] * 3,
    )
    spec.add_texture(
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=BACKGROUND_RGB,
        rgb2=BACKGROUND_RGB,
        width=16,
        height=16,
    )
    spec.visual.headlight.ambient = [0.48] * 3
    spec.visual.headlight.diffuse = [0.28] * 3
    spec.visual.headlight.specular = [0.1] * 3
    spec.visual.quality.shadowsize = 2048
    spec.stat.center, spec.stat.extent = CAMERA.target_m, 1.2  # what the shadow map covers
    spec.visual.global_.offwidth, spec.visual.global_.offheight = CAMERA.width, CAMERA.height


def _colour(spec: Any, geom: Any, name: str) -> None:
    """Replace a shape by one shape for each colour of its mesh file."""
    path = Path(spec.mesh(geom.meshname).file) if geom.meshname else Path()
    if path.suffix != ".obj":
        return
    for number, part in enumerate(obj_parts(path)):
        mesh = spec.add_mesh(name=f"{name}/{number}")
        mesh.uservert = part.vertices.ravel()
        mesh.userface = part.faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        geom.parent.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=mesh.name,
            pos=geom.pos,
            quat=geom.quat,
            rgba=geom.rgba * part.rgba,
            mass=0.0,
            group=SEEN,
            contype=0,
            conaffinity=0,
        )
    spec.delete(geom)


class Offscreen:
    """Renders a model into arrays.

    Raises:
        RenderError: neither EGL nor OSMesa works on this machine.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._gl = open_gl(CAMERA.width, CAMERA.height)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._option = mujoco.MjvOption()
        self._rect = mujoco.MjrRect(0, 0, CAMERA.width, CAMERA.height)
        self._pixels = np.empty((CAMERA.height, CAMERA.width, 3), np.uint8)
        self._camera = mujoco.MjvCamera()
        _aim_camera(self._camera)
        model.vis.global_.fovy = CAMERA.vertical_fov_deg
        self._free = weakref.finalize(self, _free, self._gl, self._context)

    def draw(self, data: Any, markers: tuple[Marker, ...]) -> Image:
        """Picture of the current state with the markers, (height, width, 3)."""
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        for marker in markers:
            _add_marker(self._scene, marker)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        return np.ascontiguousarray(self._pixels[::-1])

    def close(self) -> None:
        """Free the graphics memory; at the latest this happens at the end of the program."""
        self._free()


class Window:
    """Shows a model as it moves.

    Raises:
        RenderError: there is no display.
    """

    def __init__(self, model: Any, data: Any) -> None:
        require_display()
        from mujoco import viewer  # noqa: PLC0415  starts GLFW

        before = set(threading.enumerate())
        self._viewer = viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
        self._threads = [thread for thread in threading.enumerate() if thread not in before]
        with self._viewer.lock():
            _aim_camera(self._viewer.cam)

    def show(self, markers: tuple[Marker, ...]) -> None:
        """Show the current state with the markers.

        Raises:
            WindowClosed: the user closed it.
        """
        if not self._viewer.is_running():
            raise WindowClosed("the window was closed")
        with self._viewer.lock():
            self._viewer.user_scn.ngeom = 0
            for marker in markers:
                _add_marker(self._viewer.user_scn, marker)
        self._viewer.sync()

    def close(self) -> None:
        """Close the window; it may be called twice."""
        self._viewer.close()
        for thread in self._threads:  # the program crashes if it ends before them
            thread.join(timeout=5.0)


def _aim_camera(view: Any) -> None:
    """Set MuJoCo's camera."""
    view.lookat[:] = CAMERA.target_m
    view.distance = CAMERA.distance_m
    view.azimuth, view.elevation = CAMERA.azimuth_deg, CAMERA.elevation_deg


def _add_marker(scene: Any, marker: Marker) -> None:
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        mujoco.mjtGeom.mjGEOM_SPHERE,
        np.full(3, marker.radius_m),
        np.asarray(marker.position_m, np.float64),
        np.eye(3).ravel(),
        np.array(marker.rgba, np.float32),
    )
    scene.ngeom += 1


def _free(gl: Any, context: Any) -> None:
    gl.make_current()
    context.free()
    gl.free()


def open_gl(width: int, height: int) -> Any:
    """Open an OpenGL context without a screen: EGL, else OSMesa, or first the one in ``MUJOCO_GL``.

    Raises:
        RenderError: neither works on this machine.
    """
    first = os.environ.get("MUJOCO_GL", "").lower()
    reasons = []
    for backend in sorted(BACKENDS, key=lambda name: name != first):
        try:
            return import_module(f"mujoco.{backend}").GLContext(width, height)
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            reasons.append(f"{backend}: {error}".splitlines()[0])
            _forget_opengl()
    raise RenderError(
        "no OpenGL without a screen: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri, or libosmesa6 "
        f"({'; '.join(reasons)})"
    )


def _forget_opengl() -> None:
    """Unload PyOpenGL, which keeps the first platform that it was imported for even if that does not work."""
    os.environ.pop("PYOPENGL_PLATFORM", None)
    stale = [
        name
        for name in sys.modules
        if name.partition(".")[0] == "OpenGL" or name.startswith(tuple(f"mujoco.{one}" for one in BACKENDS))
    ]
    for name in stale:
        del sys.modules[name]
