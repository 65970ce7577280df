"""Answers that come after their deadline are none to a later question."""

from collections import deque

import numpy as np
import pytest

from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.protocols.feetech import FeetechProtocol
from wpg.hardware_bridge.protocols.servo import Packet, Status
from wpg.hardware_bridge.robot import RobotStatus, StopMode
from wpg.hardware_bridge.servos.bus import ServoBus
from wpg.hardware_bridge.servos.models import STS3215
from wpg.hardware_bridge.servos.outstanding import LATE_S, SIZES, OutstandingAnswers
from wpg.hardware_bridge.servos.robot import ServoRobotConfig
from wpg.hardware_bridge.testing.clocks import ManualClock

PERIOD_S = 0.01
CODEC = FeetechProtocol()


class LateLink(Link):
    """Whatever the other end answers comes whole, in order, and late."""

    def __init__(self, inner, clock):
        super().__init__("late:")
        self._inner, self._clock = inner, clock
        self._coming = deque()
        self.delay_s = 0.0

    def send(self, data):
        return self._inner.send(data)

    def receive(self, timeout_s):
        deadline_s = self._clock.now() + timeout_s
        while True:
            if data := self._inner.receive(0.0):
                self._coming.append((self._clock.now() + self.delay_s, data))
            come = b""
            while self._coming and self._coming[0][0] <= self._clock.now():
                come += self._coming.popleft()[1]
            if come or self._clock.now() >= deadline_s:
                return come
            self._clock.sleep_until(min(deadline_s, self._clock.now() + 1e-4))

    def close(self):
        pass


class LateBench:
    """An arm that moves steadily while it is read over a line that is late."""

    def __init__(self, bench):
        self.bench = bench
        self.link = LateLink(bench.link, bench.clock)
        bench.robot._open = lambda: self.link
        bench.connected()
        self._target = np.zeros(6)

    def cycle(self):
        """How far a state is from where the arm was as it was asked for, rad; None: there was none."""
        bench = self.bench
        bench.clock.advance(PERIOD_S)
        bench.arm.advance_to(bench.clock.now())
        true = bench.arm.state.joint_pos[0]
        try:
            found = bench.robot.read().joint_pos[0]
        except StaleStateError:
            found = None
        self._target = self._target + 0.8 * PERIOD_S
        bench.robot.write(bench.at(self._target))
        return None if found is None else abs(found - true)


@pytest.fixture(params=["feetech", "dynamixel", "dynamixel, fast"])
def late(request, make_bench):
    protocol, _, fast = request.param.partition(", ")
    return LateBench(make_bench(protocol, config=ServoRobotConfig(fast_read=bool(fast))))


@pytest.mark.parametrize("delay_ms", [0.0, 5.0, 9.5, 10.5, 14.5, 29.5, 50.0, 100.0, 300.0])
def test_a_state_is_fresh_or_missing_however_late_the_line(late, delay_ms):
    errors = [late.cycle() for _ in range(10)]
    late.link.delay_s = delay_ms / 1e3
    errors += [late.cycle() for _ in range(80)]
    states = [error for error in errors if error is not None]
    assert len(states) == (90 if delay_ms == 0 else 10)
    # Two thirds of a period's way.
    assert max(states) < 0.005


def test_states_come_again_when_the_line_does(late):
    for _ in range(10):
        late.cycle()
    late.link.delay_s = 0.03
    assert [late.cycle() for _ in range(5)] == [None] * 5
    late.link.delay_s = 0.0
    errors = [late.cycle() for _ in range(10)]
    assert None not in errors[4:]
    assert max(error for error in errors if error is not None) < 0.005


def test_servos_behind_a_slow_line_stop_and_arm(late):
    late.link.delay_s = 0.04
    late.bench.robot.stop(StopMode.HOLD)
    late.bench.robot.stop(StopMode.RELEASE)
    assert late.bench.arm.status is RobotStatus.RELEASED
    late.bench.robot.arm()
    assert late.bench.arm.status is RobotStatus.ARMED


def test_a_silence_is_not_remembered_for_good(late):
    late.cycle()
    late.bench.link.silent = True
    for _ in range(2 * SIZES):
        assert late.cycle() is None
    late.bench.link.silent = False
    late.bench.clock.advance(LATE_S)
    assert late.cycle() is not None


def test_a_dead_servo_keeps_nobody_from_answering(make_bench, protocol):
    bench = make_bench(protocol, config=ServoRobotConfig(patience=10_000))
    bench.connected()
    bench.servo("elbow_flex").is_dead = True
    for _ in range(3 * SIZES):
        bench.clock.advance(PERIOD_S)
        bench.robot.read()
    assert bench.robot.misses == dict.fromkeys(bench.robot.misses, 0) | {"elbow_flex": 3 * SIZES}
    bench.servo("elbow_flex").is_dead = False
    bench.robot.read()
    bench.robot.read()
    assert bench.robot.misses["elbow_flex"] == 3 * SIZES


class ScriptedLink(Link):
    """Answers each packet as a test says: after how long, with what."""

    def __init__(self, clock, answers):
        super().__init__("scripted:")
        self._clock = clock
        self._answers = deque(answers)
        self._coming = []
        self.sent_s = []

    def send(self, data):
        self.sent_s.append(self._clock.now())
        for delay_s, status in self._answers.popleft() if self._answers else ():
            self._coming.append((self._clock.now() + delay_s, CODEC.encode(CODEC.status(status))))
        return True

    def receive(self, timeout_s):
        deadline_s = self._clock.now() + timeout_s
        coming_s = min((time_s for time_s, _ in self._coming), default=deadline_s)
        if coming_s > self._clock.now():
            self._clock.sleep_until(min(coming_s, deadline_s))
        now_s = self._clock.now()
        data = b"".join(data for time_s, data in self._coming if time_s <= now_s)
        self._coming = [it for it in self._coming if it[0] > now_s]
        return data

    def close(self):
        pass


def scripted(*answers):
    clock = ManualClock(100.0)
    link = ScriptedLink(clock, answers)
    return ServoBus(link, CODEC, baudrate=1_000_000, margin_s=0.003, clock=clock), link


ACKNOWLEDGED = Status(1, 0, b"")


def test_an_acknowledgement_is_not_taken_for_a_later_one():
    """Both of the first write come late; the second is acknowledged by nobody."""
    bus, link = scripted([(0.006, ACKNOWLEDGED)], [(0.006, ACKNOWLEDGED)])
    bus.write(1, STS3215.torque_enable, 1)
    with pytest.raises(StaleStateError, match="servo 1 does not answer to write"):
        bus.write(1, STS3215.goal_position, 2048)
    assert len(link.sent_s) == 2 + 5


def test_what_was_never_acknowledged_is_waited_for_and_forgotten():
    lost = []
    bus, link = scripted(lost, [(0.001, ACKNOWLEDGED)], [(0.001, ACKNOWLEDGED)])
    bus.write(1, STS3215.torque_enable, 1)
    bus.write(1, STS3215.goal_position, 2048)
    assert len(link.sent_s) == 3
    assert link.sent_s[2] - link.sent_s[0] == pytest.approx(LATE_S, abs=0.01)


QUESTION, OTHER = Packet(1, 2, b"\x38\x02"), Packet(1, 2, b"\x2a\x02")
ANSWER = Status(1, 0, b"\x00\x08")


@pytest.fixture
def clock():
    return ManualClock(5.0)


@pytest.fixture
def outstanding(clock):
    return OutstandingAnswers(clock)


class TestOutstandingAnswers:
    def test_nobody_owes_at_first(self, outstanding):
        assert outstanding.tell_apart((1, 2), 2) == (2, (1, 2))
        assert not outstanding.settles(ANSWER, OTHER)

    def test_more_is_asked_of_who_owes(self, outstanding):
        outstanding.add({1}, 2, QUESTION)
        assert outstanding.tell_apart((1, 2), 2) == (3, (1, 2))
        assert outstanding.tell_apart((2,), 2) == (2, (2,))

    def test_who_owes_it_all_is_left_out_for_a_while(self, outstanding, clock):
        for size in range(2, 2 + SIZES):
            outstanding.add({1}, size, QUESTION)
        assert outstanding.tell_apart((1, 2), 2) == (2, (2,))
        clock.advance(LATE_S)
        assert outstanding.tell_apart((1, 2), 2) == (2, (1, 2))

    def test_is_settled_once(self, outstanding):
        outstanding.add({1}, 2, QUESTION)
        assert not outstanding.settles(ANSWER, QUESTION)
        assert outstanding.settles(ANSWER, OTHER)
        assert not outstanding.settles(ANSWER, OTHER)

    def test_lines_keep_order(self, outstanding):
        outstanding.add({1, 2}, 2, QUESTION)
        outstanding.is_answered(Status(1, 0, b"\x00\x08\x00"))
        assert outstanding.tell_apart((1, 2), 2) == (2, (1, 2))

    def test_unless_the_same_was_asked_twice(self, outstanding):
        outstanding.add({1}, 2, QUESTION)
        outstanding.is_answered(ANSWER)
        assert outstanding.settles(ANSWER, OTHER)
