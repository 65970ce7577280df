"""Pictures in PyBullet, by its renderer that needs no screen."""

import numpy as np
import pybullet

from wpg.sim_envs.scene import BACKGROUND_RGB, CAMERA, LIGHT_FROM, Image, Marker, Slab


def show(client: int, item: Marker | Slab) -> int:
    """Add a body that is seen and touches nothing."""
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


def draw(client: int, markers: tuple[Marker, ...]) -> Image:
    """Picture of the client's world with these markers in it, (height, width, 3)."""
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
