"""Every kind of fault, on every protocol, on a clock moved by hand: a small fault campaign, and its parts."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from wpg.hardware_bridge.emulation.faults import FaultSpec, FaultyLink
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.testing.clocks import ManualClock

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def campaign():
    """``benchmarks/fault_runs.py``, of which ``benchmarks/faults.py`` does a thousand."""
    spec = importlib.util.spec_from_file_location("fault_runs", BENCHMARKS / "fault_runs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fault_runs"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fault_runs"]


@pytest.mark.parametrize("number", range(30))
def test_whatever_fails_the_robots_own_end_sees_nothing_wrong(campaign, number):
    kinds = list(campaign.KINDS)
    # Thirty of the forty-five pairs: every kind twice, every protocol ten times.
    protocol, kind = campaign.PROTOCOLS[number % 3], kinds[(number + number // 15) % len(kinds)]
    row = campaign.run_in_process(protocol, kind, seed=7000 + number)
    assert (row["commands_outside_limits"], row["limit_violations"]) == (0, 0)
    assert not row["hang"]
    assert max(row["hold_ms_max"], row["coasting_ms_max"]) <= 100.0
    assert not row["moving_at_end"]
    assert row["jump_share_max"] <= 1.0


class Recorded(Link):
    """Keeps what it is given, and gives back what it is told to."""

    def __init__(self):
        super().__init__("recorded:")
        self.sent = []
        self.waiting = []

    def send(self, data):
        self.sent.append(data)
        return True

    def receive(self, timeout_s):
        return self.waiting.pop(0) if self.waiting else b""

    def close(self):
        pass


@pytest.fixture
def inner():
    return Recorded()


@pytest.fixture
def clock():
    return ManualClock(50.0)


class TestLine:
    PIECES = tuple(bytes((number,)) * 8 for number in range(1, 9))

    def send_all(self, inner, clock, **spec):
        link = FaultyLink(inner, FaultSpec(**spec), seed=1, clock=clock)
        for piece in self.PIECES:
            link.send(piece)
            clock.advance(0.005)
        link.receive(0.0)
        return b"".join(inner.sent)

    def test_reordered_pieces_all_arrive(self, inner, clock):
        sent = self.send_all(inner, clock, reorder=0.4)
        assert sent != b"".join(self.PIECES)
        assert sorted(sent) == sorted(b"".join(self.PIECES))

    def test_partial_writes_lose_nothing_and_keep_their_order(self, inner, clock):
        assert self.send_all(inner, clock, partial=0.9) == b"".join(self.PIECES)
        assert len(inner.sent) > len(self.PIECES) // 2

    def test_what_is_late_holds_up_what_is_behind_it(self, inner, clock):
        link = FaultyLink(inner, FaultSpec(delay=1.0, delay_ms=20), clock=clock)
        link.send(b"one")
        clock.advance(0.01)
        link.spec = FaultSpec()
        link.send(b"two")
        assert inner.sent == []
        clock.advance(0.0101)
        link.receive(0.0)
        assert b"".join(inner.sent) == b"onetwo"

    def test_pulled_and_put_back(self, inner, clock):
        link = FaultyLink(inner, FaultSpec(unplug_after_s=1.0, unplug_for_s=0.5), clock=clock)
        for second in (0.0, 1.0, 1.49, 1.51):
            clock.sleep_until(50.0 + second)
            link.send(str(second).encode())
            inner.waiting.append(str(second).encode())
            received = link.receive(0.0)
            assert received == (str(second).encode() if second in (0.0, 1.51) else b"")
        assert inner.sent == [b"0.0", b"1.51"]

    def test_faultless_until_its_time(self, inner, clock):
        assert self.send_all(inner, clock, drop=1.0, after_s=0.018) == b"".join(self.PIECES[:4])


class TestBrownOut:
    def test_servos_start_anew_and_the_driver_finds_out(self, campaign):
        for protocol in ("feetech", "dynamixel"):
            row = campaign.run_in_process(protocol, "brown-out", seed=3)
            assert row["rearmed"] == 1
            assert row["recoveries"] == 1
            assert row["end_reason"] == "duration"

    def test_what_a_restarted_dynamixel_reports_is_not_believed(self, campaign):
        from wpg.hardware_bridge.description import load_description
        from wpg.hardware_bridge.emulation.arm import EmulatedArm
        from wpg.hardware_bridge.emulation.emulator import make_device
        from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
        from wpg.hardware_bridge.errors import StaleStateError
        from wpg.hardware_bridge.robot import RobotStatus
        from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
        from wpg.hardware_bridge.testing.clocks import EmulationClock
        from wpg.hardware_bridge.testing.loopback import LoopbackLink

        clock, omx = EmulationClock(), load_description("omx")
        clock.arm = arm = EmulatedArm(KinematicRobot(omx), clock.now())
        device = make_device("dynamixel", arm)
        robot = DynamixelRobot(omx, lambda: LoopbackLink(device, arm, clock), clock=clock)
        robot.connect()
        robot.arm()
        device.brown_out(clock.now())
        clock.sleep_until(clock.now() + 0.5)
        readings = []
        for _ in range(10):
            try:
                readings.append(robot.read())
            except StaleStateError:
                continue
        assert readings[-1].status is RobotStatus.RELEASED
        for state in readings:
            np.testing.assert_allclose(state.joint_pos, omx.limits("home_rad"), atol=2e-3)


def test_native_device_that_lost_its_supply_ends_the_run(campaign):
    row = campaign.run_in_process("native", "brown-out", seed=3)
    assert row["end_reason"] == "stale_state"
    assert not row["moving_at_end"]
