import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.sources.check import watch_sources
from wpg.hardware_bridge.sources.local import LocalSource
from wpg.hardware_bridge.testing.clocks import ManualClock

PLACE = np.array([0.5, 0.0, 0.02])


class Tracker(LocalSource):
    def __init__(self, clock, *, every_s: float, age_s: float = 0.0, noise_m: float = 0.0) -> None:
        super().__init__(["object_pos"], name="tracker", clock=clock)
        self._every_s, self._age_s, self._noise_m = every_s, age_s, noise_m
        self._rng, self._next_s = np.random.default_rng(0), 0.0

    def read(self):
        now_s = self._clock.now()
        if now_s >= self._next_s:
            self._next_s += self._every_s
            self.send({"object_pos": PLACE + self._noise_m * self._rng.normal(size=3)}, now_s - self._age_s)
        return super().read()


def watch(interface, **kwargs):
    clock = ManualClock()
    return watch_sources(interface, [Tracker(clock, **kwargs)], stale_s=0.2, clock=clock)


def test_a_good_source(pushing):
    (found,) = watch(pushing.interface, every_s=0.02, age_s=0.03, noise_m=0.002)
    assert found.ok
    assert (found.term, found.source) == ("object_pos", "tracker")
    assert found.rate_hz == pytest.approx(50, abs=1)
    assert found.age_ms_max == pytest.approx(50, abs=6)
    np.testing.assert_allclose(found.value, PLACE, atol=1e-3)
    assert found.noise == pytest.approx(0.002, rel=0.3)


def test_one_that_the_loop_would_hold_for(pushing):
    (found,) = watch(pushing.interface, every_s=0.1, age_s=0.15)
    assert not found.ok
    assert found.fault.endswith(" ms old: the arm is held at 200 ms")
    assert found.age_ms_max == pytest.approx(250, abs=11)


def test_none(pushing):
    with pytest.raises(StaleStateError, match="source tracker: no object_pos within 2 s"):
        watch(pushing.interface, every_s=100.0, age_s=-10.0)
    with pytest.raises(ContractError, match="object_pos without a source"):
        watch_sources(pushing.interface, [], stale_s=0.2)
