"""What both engines draw: the same camera, table, floor and markers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RGBA = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A sphere that is seen and touches nothing."""

    position_m: NDArray[np.float64]
    radius_m: float
    rgba: RGBA


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where the picture is taken from; angles as MuJoCo counts them."""

    width: int = 640
    height: int = 480
    target_m: tuple[float, float, float] = (0.30, 0.0, 0.33)
    distance_m: float = 1.55
    azimuth_deg: float = 140.0
    elevation_deg: float = -20.0
    vertical_fov_deg: float = 45.0


CAMERA = Camera()
GOAL_RGBA: RGBA = (0.10, 0.75, 0.30, 0.65)
TOOL_RGBA: RGBA = (0.95, 0.35, 0.10, 1.0)
