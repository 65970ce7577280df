import dataclasses
from collections import deque

import msgspec
import numpy as np
import pytest

from wpg.export.interface import ObservationTerm
from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.sources.link import LinkSource
from wpg.hardware_bridge.sources.sender import SourceSender
from wpg.hardware_bridge.testing.clocks import ManualClock

URL = "udp://127.0.0.1:7710"


class Wire(Link):
    """One end of a pair that hands over datagrams at once."""

    def __init__(self) -> None:
        super().__init__(URL)
        self.arrived: deque[bytes] = deque()
        self.other: Wire
        self.sent: list[bytes] = []
        self.cut = False

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        if self.cut:
            raise LinkError("link: nothing listens there")
        self.other.arrived.append(data)
        return True

    def receive(self, timeout_s: float) -> bytes:
        return self.arrived.popleft() if self.arrived else b""

    def close(self) -> None:
        pass


@dataclasses.dataclass
class Ends:
    """A source and its sender, each on a clock of its own."""

    source: LinkSource
    sender: SourceSender
    here: Wire
    there: Wire
    clock: ManualClock
    other_clock: ManualClock

    def advance(self, duration_s: float) -> None:
        self.clock.advance(duration_s)
        self.other_clock.advance(duration_s)

    def exchange(self, value, age_s: float = 0.0):
        """The sender measures; returns what the source reads then."""
        self.sender.send({"object_pos": value}, self.other_clock.now() - age_s)
        return self.source.read()


@pytest.fixture
def make_ends():
    def make(key=None, other_key=None, start_s=1000.0):
        here, there = Wire(), Wire()
        here.other, there.other = there, here
        clock, other_clock = ManualClock(5.0), ManualClock(start_s)
        source = LinkSource(URL, ["object_pos"], key=key, clock=clock, link=lambda: here)
        sender = SourceSender(URL, key=other_key or key, clock=other_clock, link=lambda: there)
        source.connect()
        source.read()  # subscribes
        return Ends(source, sender, here, there, clock, other_clock)

    return make


@pytest.fixture
def ends(make_ends) -> Ends:
    return make_ends()


class PushingPolicy:
    """Reaches for the object: what it does is seen in what it was fed."""

    def __init__(self, reach_policy, *, horizon_steps: int = 10, history: int = 1) -> None:
        self._reach = reach_policy
        interface = reach_policy.interface
        joints, tool, goal = interface.observation
        thing = ObservationTerm(name="object_pos", size=3 * history, source="external", history=history)
        spec = msgspec.structs.replace(
            interface.goal,
            achieved="object_pos",
            horizon_steps=horizon_steps,
            tolerance_m=0.05,
            distance_min_m=0.05,
        )
        self.interface = msgspec.structs.replace(
            interface, observation=(joints, thing, tool, goal), goal=spec
        )
        self._width = joints.size

    def act(self, obs) -> Decision:
        size = self.interface.obs_dim - self._width - 6
        thing = obs[self._width : self._width + 3]
        return self._reach.act(
            np.concatenate([obs[: self._width], obs[self._width + size : -3], thing]).astype(np.float32)
        )

    def reset(self) -> None:
        pass


@pytest.fixture
def pushing(reach_policy) -> PushingPolicy:
    return PushingPolicy(reach_policy)


@pytest.fixture
def make_pushing(reach_policy):
    return lambda **kwargs: PushingPolicy(reach_policy, **kwargs)
