"""The sending end of a source's link, for the process of a camera.

It needs a few lines::

sender = PoseSender("udp://127.0.0.1:7710")
while True:
    captured_s = time.monotonic()
    position_m, rotation = track(camera.read())
    sender.send(position_m, rotation, captured_s)
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.links import Link, serve_link
from wpg.hardware_bridge.protocols.framing import next_sequence
from wpg.hardware_bridge.protocols.source import (
    AGE_MAX_US,
    Sample,
    SourceFrame,
    Subscribe,
    encode_source_frame,
    source_frames,
)
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.sources.link import DATAGRAMS_MAX, require_datagrams

VELOCITY_WINDOW_S = 0.1
WANTED_S = 2.0
"""A bridge that has not subscribed for this long is considered gone."""
TAKEN_S = 0.5
"""Another bridge is heard only after the present one has not subscribed for this long."""


class SourceSender:
    """Sends values of observation terms to the bridge that asks for them.

    Args:
        url: where bridges ask, ``udp://127.0.0.1:7710``; port 0 takes a free one.
        key: shared secret, which an address that other machines reach has to have.
        clock: clock of the measuring times; by default ``time.monotonic``.
        link: opens the link; by default at ``url``.

    Raises:
        LinkUrlError: no such link.
        LinkError: the address is in use, or other machines reach it and there is no key.
    """

    def __init__(
        self,
        url: str,
        *,
        key: bytes | None = None,
        clock: Clock | None = None,
        link: Callable[[], Link] | None = None,
    ) -> None:
        require_datagrams(url, key)
        self._clock = clock or RealClock()
        self._key = key
        self._frames = source_frames(key)
        self._link = (link or (lambda: serve_link(url)))()
        self.url = self._link.url
        """URL to give to ``wpg run --source``."""
        self._session: int | None = None
        self._sequence = 0
        self._asked_s = -math.inf

    def send(self, values: Mapping[str, ArrayLike], time_s: float | None = None) -> bool:
        """Send values that were measured at once. Never waits.

        Args:
            values: numbers of each term, by its name, in its unit.
            time_s: when they were measured, by ``time.monotonic()``; by default now.

        Returns:
            Whether a bridge has subscribed; otherwise nothing is sent.

        Raises:
            ValueError: a value is not finite, or was measured in the future.
        """
        now_s = self._clock.now()
        age_s = 0.0 if time_s is None else now_s - time_s
        if not age_s >= 0:
            raise ValueError(f"time_s: expected at most {now_s:.3f}, the clock's time, found {time_s}")
        arrays = {name: np.asarray(value, np.float64).ravel() for name, value in values.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: expected finite numbers, found {array.tolist()}")
        self._listen(now_s)
        if self._session is None or now_s - self._asked_s > WANTED_S:
            return False
        self._sequence = next_sequence(self._sequence)
        sample = Sample(min(round(age_s * 1e6), AGE_MAX_US), arrays)
        frame = SourceFrame(self._session, self._sequence, round(now_s * 1e6), sample)
        return self._link.send(encode_source_frame(frame, self._key))

    def close(self) -> None:
        """Close the link."""
        self._link.close()

    def _listen(self, now_s: float) -> None:
        """Take subscriptions that have come."""
        for _ in range(DATAGRAMS_MAX):
            data = self._link.receive(0.0)
            if not data:
                break
            for frame in self._frames.feed(data):
                if isinstance(frame.message, Subscribe) and self._heeds_sender(now_s):
                    self._link.answer_sender()
                    if frame.session != self._session:
                        self._session, self._sequence = frame.session, 0
                    self._asked_s = now_s

    def _heeds_sender(self, now_s: float) -> bool:
        return self._link.answers_sender() or now_s - self._asked_s > TAKEN_S


class PoseSender:
    """Sends an object's pose, as the terms ``NAME_pos``, ``NAME_rot6d`` and ``NAME_vel`` of wpg's tasks.

    The velocity is fitted to the positions of the last tenth of a second.

    Args:
        url: where bridges ask, ``udp://127.0.0.1:7710``; port 0 takes a free one.
        name: name of the object, the prefix of the terms.
        key: shared secret, which an address that other machines reach has to have.
        clock: clock of the measuring times; by default ``time.monotonic``.

    Raises:
        LinkError: as :class:`SourceSender`.
    """

    def __init__(
        self, url: str, name: str = "object", *, key: bytes | None = None, clock: Clock | None = None
    ) -> None:
        self._clock = clock or RealClock()
        self._sender = SourceSender(url, key=key, clock=self._clock)
        self.url = self._sender.url
        """URL to give to ``wpg run --source``."""
        self.terms = (f"{name}_pos", f"{name}_rot6d", f"{name}_vel")
        self._places: list[tuple[float, Vector]] = []
        """Positions of the last tenth of a second, with their times, s and m."""

    def send(self, position_m: ArrayLike, rotation: ArrayLike, time_s: float | None = None) -> bool:
        """Send a pose. Never waits.

        Args:
            position_m: (3,) m, centre of the object in the robot's base frame.
            rotation: from the object to the base frame, (3, 3) or a quaternion (4,) w, x, y, z.
            time_s: when the picture was taken, by ``time.monotonic()``; by default now.

        Returns:
            Whether a bridge has subscribed.

        Raises:
            ValueError: not finite, another shape, no rotation, or in the future.
        """
        time_s = self._clock.now() if time_s is None else time_s
        place = np.asarray(position_m, np.float64)
        if place.shape != (3,):
            raise ValueError(f"position_m: expected 3 numbers, found shape {place.shape}")
        columns = rotation_matrix(rotation)[:, :2].T.ravel()
        recent = [(at_s, at) for at_s, at in self._places if time_s - at_s <= VELOCITY_WINDOW_S]
        places = [*recent, (time_s, place)]
        values = (place, columns, _slope(places))
        asked = self._sender.send(dict(zip(self.terms, values, strict=True)), time_s)
        self._places = places  # not before: a pose that is refused says nothing about velocity
        return asked

    def close(self) -> None:
        """Close the link."""
        self._sender.close()


def _slope(places: list[tuple[float, Vector]]) -> Vector:
    """Velocity by least squares, (3,) m/s; zero if there is only one position."""
    times = np.array([moment for moment, _ in places])
    times -= times.mean()
    spread = float(times @ times)
    if spread == 0.0:
        return np.zeros(3)
    slope: Vector = times @ np.array([where for _, where in places]) / spread
    return slope


def rotation_matrix(rotation: ArrayLike) -> Vector:
    """The rotation matrix (3, 3) of a rotation matrix or a quaternion (4,) w, x, y, z of any length but zero.

    Raises:
        ValueError: it is neither.
    """
    given = np.asarray(rotation, np.float64)
    if given.shape == (4,) and (length := float(np.linalg.norm(given))) > 0:
        w, x, y, z = given / length
        turned = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        matrix: Vector = np.eye(3) + 2.0 * (w * turned + turned @ turned)
        return matrix
    if (
        given.shape == (3, 3)
        and np.linalg.det(given) > 0
        and np.allclose(given @ given.T, np.eye(3), atol=1e-3)
    ):
        return given
    raise ValueError(
        f"rotation: expected a quaternion w, x, y, z or a rotation matrix, found {given.tolist()}"
    )
