"""Homing comes to an end, also where the arm cannot get home."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.homing import STALLED_S
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig


@pytest.fixture
def loop(bench, reach_policy, trace):
    """A run whose arm stands away from home; stopped where nothing else ends it."""
    goal = msgspec.structs.replace(reach_policy.interface.goal, start_spread_rad=0.05)
    reach_policy.interface = msgspec.structs.replace(reach_policy.interface, goal=goal)
    bench.simulated.place(bench.description.limits("home_rad") + 0.3)
    late_s = bench.clock.now() + 10 * STALLED_S

    def should_stop():
        return "too late" if bench.clock.now() > late_s else ""

    config = LoopConfig(goals=1)
    return ControlLoop(
        bench.robot, reach_policy, config, clock=bench.clock, should_stop=should_stop, recorder=trace
    )


def test_a_driver_that_clips_what_it_is_told(loop, bench, trace):
    lowest = bench.description.limits("home_rad")[2] + 0.1
    write = bench.robot.write

    def clipped(command):
        joint_pos = command.joint_pos.copy()
        joint_pos[2] = max(joint_pos[2], lowest)
        return write(replace(command, joint_pos=joint_pos))

    bench.robot.write = clipped
    report = loop.run()
    assert (report.end_reason, report.final_phase) == ("homing_stalled", "parked")
    assert report.message.startswith(f"no nearer to the start for 5 s: joint 3 of 7 stays at {lowest:.4f}")
    assert trace.names[-4:] == ["armed", "homing", "stopping", "parked"]
    assert STALLED_S < report.duration_s < STALLED_S + 5.0


def test_a_start_outside_the_limits(loop, bench):
    outside = bench.description.limits("home_rad").copy()
    outside[1] = bench.description.joints[1].position_max_rad + 0.1
    loop._start.joint_pos = outside
    report = loop.run()
    assert (report.end_reason, report.final_phase) == ("homing_stalled", "parked")
    assert "joint 2 of 7" in report.message


def test_a_slow_arm_gets_home(loop, trace):
    loop._motion._setpoints._velocity = np.full(7, 0.02)
    loop.run()
    phases = {event["name"]: event["time_s"] for event in trace.events}
    assert phases["running"] - phases["homing"] > 2 * STALLED_S
