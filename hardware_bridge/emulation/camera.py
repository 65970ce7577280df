"""An emulated camera: sends the pose of a simulated object as the process of a real camera would."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from wpg.export.kinematics import Frame
from wpg.hardware_bridge.emulation.faults import FaultSpecError, read_numbers
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.sources.sender import PoseSender

Look = Callable[[], tuple[Vector, Vector]]
"""Gives the object's true place (3,) m and rotation (3, 3) in the base frame."""


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """Quality of the camera, and what goes wrong with it."""

    rate_hz: float = 30.0
    delay_ms: float = 20.0
    """Delay from taking a picture to sending the pose that is in it."""
    noise_mm: float = 0.0
    """Standard deviation along each axis."""
    noise_deg: float = 0.0
    """Standard deviation of the rotation about each axis."""
    drop: float = 0.0
    """Probability that nothing is found in a picture."""
    hidden_after_s: float = 0.0
    """Time after the start at which something gets between camera and object; 0 for never."""
    hidden_for_s: float = 1.0
    """How long it stays there."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not 0 <= getattr(self, name) < math.inf:
                raise FaultSpecError(f"camera {name}: expected 0 or more, found {getattr(self, name)}")
        if self.drop > 1:
            raise FaultSpecError(f"camera drop: expected a probability, found {self.drop}")
        if self.rate_hz == 0:
            raise FaultSpecError("camera rate_hz: expected more than 0, found 0.0")


def parse_camera(text: str) -> CameraSpec:
    """Read e.g. ``rate_hz=30,delay_ms=40,noise_mm=1,drop=0.05``.

    Raises:
        FaultSpecError: unknown property, or no number.
    """
    return CameraSpec(**read_numbers(text, CameraSpec, "camera"))


class EmulatedCamera:
    """Takes pictures at its rate, and sends the poses in them after a delay. The caller tells it the time.

    Args:
        look: returns the true pose of the object.
        sender: sends the poses; closed with the camera.
        spec: quality of the camera.
        seed: seed of the noise and of the pictures in which nothing is found.
        now_s: time at which it starts.
    """

    def __init__(self, look: Look, sender: PoseSender, spec: CameraSpec, *, seed: int, now_s: float) -> None:
        self._look = look
        self._sender = sender
        self._spec = spec
        self._generator = np.random.default_rng(seed)
        self._start_s = self._next_s = now_s
        self._on_their_way: deque[tuple[float, Vector, Vector]] = deque()

    def advance_to(self, now_s: float) -> None:
        """Take the picture that is due, and send the poses whose delay is over."""
        if now_s >= self._next_s:
            # Pictures that are overdue are left out.
            periods = int((now_s - self._next_s) * self._spec.rate_hz) + 1
            self._next_s += periods / self._spec.rate_hz
            self._take_picture(now_s)
        while self._on_their_way and self._on_their_way[0][0] + self._spec.delay_ms / 1e3 <= now_s:
            taken_s, place, rotation = self._on_their_way.popleft()
            self._sender.send(place, rotation, taken_s)

    def close(self) -> None:
        """Close the link."""
        self._sender.close()

    def _take_picture(self, now_s: float) -> None:
        spec, generator = self._spec, self._generator
        noise_m = spec.noise_mm / 1e3 * generator.normal(size=3)
        noise_rad = math.radians(spec.noise_deg) * generator.normal(size=3)
        found = generator.random() >= spec.drop
        hidden_s = now_s - self._start_s - spec.hidden_after_s
        if not found or (spec.hidden_after_s and 0 <= hidden_s < spec.hidden_for_s):
            return
        place, rotation = self._look()
        roll, pitch, yaw = noise_rad.tolist()
        turned = Frame(rpy_rad=(roll, pitch, yaw)).matrix()[:3, :3]
        self._on_their_way.append((now_s, place + noise_m, turned @ rotation))
