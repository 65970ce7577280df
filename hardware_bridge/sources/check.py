"""Checks what sources send before a policy relies on it."""

from collections.abc import Sequence

import msgspec
import numpy as np

from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.sources.source import LOOK_EVERY_S, Feed, Source

WATCHED_S = 2.0


class TermCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one observation term."""

    term: str
    source: str
    rate_hz: float
    age_ms_max: float
    """Age of a reading when the next one came."""
    value: list[float]
    """Mean, in the term's unit."""
    noise: float
    """Largest standard deviation of its numbers, while the object should rest."""
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether the control loop would accept the term without holding."""
        return not self.fault


def watch_sources(
    interface: PolicyInterface,
    sources: Sequence[Source],
    *,
    stale_s: float,
    duration_s: float = WATCHED_S,
    clock: Clock | None = None,
) -> list[TermCheck]:
    """Listen to the sources for a while, during which the object should rest.

    Args:
        interface: says which terms are needed.
        sources: not yet connected; closed at the end.
        stale_s: age at which the control loop holds.
        duration_s: how long to listen.
        clock: clock of the sources.

    Raises:
        ContractError: a term has no source, or a source no term.
        LinkError: a source cannot be listened to.
        StaleStateError: one sends no reading.
    """
    clock = clock or RealClock()
    feed = Feed(interface, sources, clock)
    taken: dict[str, list[tuple[float, float, Vector]]] = {name: [] for name in interface.external}
    try:
        feed.connect()
        end_s = clock.now() + duration_s
        while clock.now() < end_s:
            clock.sleep_until(clock.now() + LOOK_EVERY_S)
            for name, value, age_s in feed.poll():
                taken[name].append((clock.now(), age_s, value))
    finally:
        feed.close()
    places = {name: source.name for source in sources for name in source.terms}
    return [_checked(name, places[name], rows, duration_s, stale_s) for name, rows in taken.items()]


def _checked(
    name: str, source: str, rows: list[tuple[float, float, Vector]], duration_s: float, stale_s: float
) -> TermCheck:
    if not rows:
        fault = f"nothing within {duration_s:g} s"
        return TermCheck(term=name, source=source, rate_hz=0, age_ms_max=0, value=[], noise=0, fault=fault)
    times, ages = (np.array([row[column] for row in rows]) for column in (0, 1))
    values = np.array([row[2] for row in rows])
    oldest_s = float(ages[-1]) if len(rows) == 1 else float((np.diff(times) + ages[:-1]).max())
    late = f"up to {1e3 * oldest_s:.0f} ms old: the arm is held at {1e3 * stale_s:.0f} ms"
    return TermCheck(
        term=name,
        source=source,
        rate_hz=round(len(rows) / duration_s, 1),
        age_ms_max=round(1e3 * oldest_s, 1),
        value=values.mean(axis=0).round(4).tolist(),
        noise=float(values.std(axis=0).max()),
        fault=late if oldest_s > stale_s else "",
    )
