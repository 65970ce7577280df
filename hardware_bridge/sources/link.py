"""A source behind a link: the bridge's end of the protocol in ``docs/sources.md``."""

import contextlib
import math
import secrets
from collections.abc import Callable, Mapping, Sequence

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.links import Link, LinkUrl, open_link, parse_link_url
from wpg.hardware_bridge.protocols.framing import is_ahead
from wpg.hardware_bridge.protocols.source import (
    Sample,
    SourceFrame,
    Subscribe,
    encode_source_frame,
    source_frames,
)
from wpg.hardware_bridge.sources.source import Reading

SUBSCRIBE_EVERY_S = 0.2
DATAGRAMS_MAX = 64
"""Largest number of datagrams per read, so that a flood does not delay the loop."""
DRIFT = 2e-4
"""Largest relative drift of two clocks: crystals keep within 1e-4 each."""


class LinkSource:
    """Terms that another process sends in datagrams.

    A datagram is accepted if it is undamaged, tagged with the key if there is one, of the present session,
    and newer than the last. The bridge chooses the session at random, and anew whenever nothing came for a
    while; so recorded datagrams are refused, and a source that was restarted is heard again.

    The age of a reading is the age that the source states, plus the time by which the datagram was slower
    than the fastest one of its session.

    Args:
        url: address of the source, ``udp://HOST:PORT``.
        terms: observation terms that it feeds.
        key: shared secret.
        clock: the control loop's.
        link: opens the link; by default at ``url``.

    Raises:
        LinkUrlError: no such link.
        LinkError: the source is on another machine, and there is no key.
    """

    def __init__(
        self,
        url: str,
        terms: Sequence[str],
        *,
        key: bytes | None = None,
        clock: Clock | None = None,
        link: Callable[[], Link] | None = None,
    ) -> None:
        require_datagrams(url, key)
        self.name, self.terms = url, tuple(terms)
        self._key = key
        self._clock = clock or RealClock()
        self._open = link or (lambda: open_link(url))
        self._link: Link | None = None
        self._frames = source_frames(key)
        self._foreign = 0
        self._heard = False
        self._start_session()

    @property
    def drops(self) -> Mapping[str, int]:
        """Number of frames that were damaged, lacked the key's tag, or were repeated or foreign."""
        found = {
            "bad": self._frames.frames_bad,
            "unauthenticated": self._frames.frames_unauthenticated,
            "foreign": self._foreign,
        }
        return {name: times for name, times in found.items() if times}

    def connect(self) -> None:
        """Open the link and ask for samples.

        Raises:
            LinkError: the host cannot be reached.
        """
        self._link = self._open()
        self._next_subscribe_s = -math.inf

    def read(self) -> Reading | None:
        """The newest reading since the last call."""
        if self._link is None:
            return None
        now_s = self._clock.now()
        if now_s >= self._next_subscribe_s:
            self._subscribe(self._link, now_s)
        newest = None
        # While nobody listens at the other end, every subscription causes an error here.
        with contextlib.suppress(LinkError):
            for _ in range(DATAGRAMS_MAX):
                data = self._link.receive(0.0)
                if not data:
                    break
                for frame in self._frames.feed(data):
                    newest = self._reading(frame, now_s) or newest
        return newest

    def close(self) -> None:
        """Close the link."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _start_session(self) -> None:
        self._session = secrets.randbits(32)
        self._subscriptions = self._last = self._last_us = 0
        self._offset_s, self._offset_at_s = math.inf, 0.0

    def _subscribe(self, link: Link, now_s: float) -> None:
        if not self._heard:
            self._start_session()
        self._heard = False
        self._next_subscribe_s = now_s + SUBSCRIBE_EVERY_S
        self._subscriptions += 1
        frame = SourceFrame(self._session, self._subscriptions, round(now_s * 1e6), Subscribe())
        with contextlib.suppress(LinkError):
            link.send(encode_source_frame(frame, self._key))

    def _reading(self, frame: SourceFrame, now_s: float) -> Reading | None:
        sample = frame.message
        if (
            not isinstance(sample, Sample)
            or frame.session != self._session
            or not is_ahead(frame.sequence, self._last)
            or frame.time_us < self._last_us  # of another clock, so of another sender
        ):
            self._foreign += 1
            return None
        self._last, self._last_us, self._heard = frame.sequence, frame.time_us, True
        sent_s = frame.time_us * 1e-6
        # Offset from the source's clock to ours, by the fastest datagram; it may grow as the clocks drift.
        creep_s = DRIFT * (now_s - self._offset_at_s)
        self._offset_s = min(self._offset_s + creep_s, now_s - sent_s)
        self._offset_at_s = now_s
        return Reading(sample.values, sent_s + self._offset_s - sample.age_us * 1e-6)


def require_datagrams(url: str, key: bytes | None) -> LinkUrl:
    """Parse and check the URL of a source's link.

    Raises:
        LinkUrlError: it is no link of datagrams, or cannot be read.
        LinkError: it leads to another machine, and there is no key.
    """
    parsed = parse_link_url(url)
    if parsed.scheme != "udp":
        raise parsed.error("a source sends datagrams: expected udp://HOST:PORT")
    if key is None and not parsed.is_local:
        raise LinkError(f"link {url}: a source on another machine needs a key on both (wpg key FILE)")
    return parsed
