"""Objects around an arm in PyBullet."""

import pybullet

from wpg.sim_envs.models.scene import BLOCK_RGBA, HOLE_FRICTION, TABLE_FRICTION, Cube, Peg

TABLE_HALF_SIZE_M = (2.0, 2.0, 0.1)


def add_table(client: int) -> int:
    """Add the table; it is a box because the engine looks for contacts with a plane everywhere."""
    box = pybullet.createCollisionShape(
        pybullet.GEOM_BOX,
        halfExtents=TABLE_HALF_SIZE_M,
        collisionFramePosition=(0.0, 0.0, -TABLE_HALF_SIZE_M[2]),
        physicsClientId=client,
    )
    # A visual shape too small to be seen: without one the box would be drawn and hide the table's picture.
    speck = pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=1e-4, physicsClientId=client)
    table: int = pybullet.createMultiBody(
        baseCollisionShapeIndex=box, baseVisualShapeIndex=speck, physicsClientId=client
    )
    pybullet.changeDynamics(table, -1, lateralFriction=TABLE_FRICTION, physicsClientId=client)
    return table


def add_block(client: int, peg: Peg) -> int:
    """Add the block with the hole."""
    kind = [pybullet.GEOM_BOX] * 4
    centers, half_sizes = (list(parts) for parts in zip(*peg.walls(), strict=True))
    body: int = pybullet.createMultiBody(
        baseCollisionShapeIndex=pybullet.createCollisionShapeArray(
            kind, halfExtents=half_sizes, collisionFramePositions=centers, physicsClientId=client
        ),
        baseVisualShapeIndex=pybullet.createVisualShapeArray(
            kind,
            halfExtents=half_sizes,
            visualFramePositions=centers,
            rgbaColors=[BLOCK_RGBA] * 4,
            physicsClientId=client,
        ),
        physicsClientId=client,
    )
    pybullet.changeDynamics(body, -1, lateralFriction=HOLE_FRICTION, physicsClientId=client)
    return body


def add_cube(client: int, cube: Cube) -> int:
    """Add the cube."""
    half_sizes = [cube.half_size_m] * 3
    body: int = pybullet.createMultiBody(
        baseMass=cube.mass_kg,
        baseCollisionShapeIndex=pybullet.createCollisionShape(
            pybullet.GEOM_BOX, halfExtents=half_sizes, physicsClientId=client
        ),
        baseVisualShapeIndex=pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=half_sizes, rgbaColor=cube.rgba, physicsClientId=client
        ),
        basePosition=(0.5, 0.0, cube.half_size_m),
        physicsClientId=client,
    )
    pybullet.changeDynamics(
        body, -1, lateralFriction=1.0, linearDamping=0.0, angularDamping=0.0, physicsClientId=client
    )
    return body
