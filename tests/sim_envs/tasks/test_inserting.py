"""Inserting by the control loop: a scripted policy, a device's bytes, and physics, on one simulated clock."""

import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import make_device
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.testing.clocks import EmulationClock
from wpg.hardware_bridge.testing.loopback import LoopbackLink
from wpg.hardware_bridge.testing.memory_log import MemoryLog
from wpg.sim_envs.tasks.insert import InsertEnv
from wpg.sim_envs.tasks.scripts import Inserter, ScriptedPolicy
from wpg.sim_envs.tasks.stand_in import HoleStandIn


@pytest.fixture
def hole():
    hole = HoleStandIn("panda", seed=3)
    yield hole
    hole.robot.close()


def loop(hole, config, recorder=None) -> ControlLoop:
    clock = EmulationClock()
    arm = clock.arm = EmulatedArm(hole.robot, clock.now(), 0.0)
    link = LoopbackLink(make_device("native", arm), arm, clock)
    robot = NativeRobot(hole.robot.description, lambda: link, clock=clock)
    policy = ScriptedPolicy(InsertEnv(), Inserter)
    return ControlLoop(robot, policy, config, clock=clock, recorder=recorder or MemoryLog())


def test_in_and_out_and_in_again(hole):
    """Between goals the peg leaves the hole upwards: the block does not give way."""
    log = MemoryLog()
    report = loop(hole, LoopConfig(goal=tuple(hole.goal_m), duration_s=16.0), log).run()
    assert report.goals == report.successes >= 2
    assert report.limit_violations == 0
    assert report.safety_events == {}
    phases = log.recording().timing["phase"]
    assert (np.flatnonzero(phases == "homing")[-1]) > np.flatnonzero(phases == "running")[0]


def test_there_is_no_way_into_the_block_beside_the_hole(hole):
    """The block's top stops the peg above the goal."""
    beside = hole.goal_m + np.array([0.0, 0.03, 0.0])
    report = loop(hole, LoopConfig(goal=tuple(beside))).run()
    assert (report.end_reason, report.successes) == ("goals_done", 0)
    (result,) = report.goal_results
    assert result.error_m > 0.02
    assert report.limit_violations == 0


def test_a_hole_is_not_where_a_draw_says(hole):
    with pytest.raises(ContractError, match="where something stands: give its place"):
        loop(hole, LoopConfig(goals=1)).run()


def test_a_hole_stands_where_the_contract_says_goals_are(hole):
    goal = InsertEnv(effects={"table_height_m": [-0.02, 0.03]}).interface.goal
    assert (goal.low[2], goal.high[2]) == pytest.approx((0.05, 0.1))
    assert InsertEnv(control="joints").interface.goal is None
    exact = InsertEnv().interface.goal
    assert np.all(np.array(exact.low) <= hole.goal_m + 1e-6)
    assert np.all(hole.goal_m <= np.array(exact.high) + 1e-6)


def test_the_seed_decides_where_the_hole_is(hole):
    again, other = (HoleStandIn("panda", "pybullet", seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(again.goal_m, hole.goal_m)
    assert not np.allclose(other.goal_m, hole.goal_m)
    for one in (again, other):
        one.robot.close()
