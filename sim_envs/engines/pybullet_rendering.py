"""Pictures of PyBullet's scene by its renderer that needs no screen, and its window."""

import numpy as np
import pybullet

from wpg.sim_envs.errors import WindowClosed
from wpg.sim_envs.models.scene import BACKGROUND_RGB, CAMERA, LIGHT_FROM, Image, Marker, Slab


def show(client: int, item: Marker | Slab) -> int:
    """Add a body that is visible and collides with nothing."""
    if isinstance(item, Marker):
        shape = pybullet.createVisualShape(
            pybullet.GEOM_SPHERE, radius=item.radius_m, rgbaColor=item.rgba, physicsClientId=client
        )
        place = item.position_m.tolist()
    else:
        shape = pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=item.half_size_m, rgbaColor=item.rgba, physicsClientId=client
        )
        place = item.center_m
    body: int = pybullet.createMultiBody(
        baseVisualShapeIndex=shape, basePosition=place, physicsClientId=client
    )
    return body


class Window:
    """The window of a client that was connected with one."""

    def __init__(self, client: int) -> None:
        self._client = client
        self._markers: list[int] = []
        for panel in (pybullet.COV_ENABLE_GUI, pybullet.COV_ENABLE_MOUSE_PICKING):
            pybullet.configureDebugVisualizer(panel, 0, physicsClientId=client)
        yaw_deg = CAMERA.azimuth_deg - 90.0  # from +y
        pybullet.resetDebugVisualizerCamera(
            CAMERA.distance_m, yaw_deg, CAMERA.elevation_deg, CAMERA.target_m, physicsClientId=client
        )

    def show(self, markers: tuple[Marker, ...]) -> None:
        """Show the current state with the markers; every call must pass the same ones.

        Raises:
            WindowClosed: the user closed the window.
        """
        if not pybullet.isConnected(self._client):
            raise WindowClosed("the window was closed")
        self._markers = self._markers or [show(self._client, marker) for marker in markers]
        for body, marker in zip(self._markers, markers, strict=True):
            pybullet.resetBasePositionAndOrientation(
                body, marker.position_m.tolist(), (0, 0, 0, 1), physicsClientId=self._client
            )


def draw(client: int, markers: tuple[Marker, ...]) -> Image:
    """Picture of the client's scene with the markers, (height, width, 3)."""
    bodies = [show(client, marker) for marker in markers]
    _, _, pixels, _, bodies_seen = pybullet.getCameraImage(
        CAMERA.width,
        CAMERA.height,
        pybullet.computeViewMatrix(CAMERA.eye_m, CAMERA.target_m, (0.0, 0.0, 1.0)),
        pybullet.computeProjectionMatrixFOV(
            CAMERA.vertical_fov_deg, CAMERA.width / CAMERA.height, CAMERA.near_m, CAMERA.far_m
        ),
        lightDirection=LIGHT_FROM,
        shadow=True,
        lightAmbientCoeff=0.6,
        lightDiffuseCoeff=0.45,
        lightSpecularCoeff=0.1,
        renderer=pybullet.ER_TINY_RENDERER,
        physicsClientId=client,
    )
    for body in bodies:
        pybullet.removeBody(body, physicsClientId=client)
    shape = (CAMERA.height, CAMERA.width)
    image = np.asarray(pixels, np.uint8).reshape(*shape, 4)[:, :, :3].copy()
    image[np.asarray(bodies_seen).reshape(shape) < 0] = np.round(255.0 * np.array(BACKGROUND_RGB))
    return image
