"""Picking by the control loop: a scripted policy, a device's bytes, and physics behind them, on one clock."""

import numpy as np
import pytest

from wpg.hardware_bridge.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.emulated_arm import EmulatedArm
from wpg.hardware_bridge.emulator import make_device
from wpg.hardware_bridge.local_source import LocalSource
from wpg.hardware_bridge.loop import ControlLoop
from wpg.hardware_bridge.loop_config import LoopConfig
from wpg.hardware_bridge.loopback import LivingClock, LoopbackLink
from wpg.hardware_bridge.memory_log import MemoryLog
from wpg.hardware_bridge.native_robot import NativeRobot
from wpg.hardware_bridge.servo_models import RAD_PER_COUNT
from wpg.sim_envs.scripts import Picker, ScriptedPolicy
from wpg.sim_envs.stand_in import TableStandIn

DRIVERS = {"panda": NativeRobot, "omx": DynamixelRobot}
GOALS = 2


class Eyes(LocalSource):
    """See the cube as it is."""

    def __init__(self, table, clock) -> None:
        super().__init__(("object_pos", "object_rot6d", "object_vel"), clock=clock)
        self._table, self._clock = table, clock

    def read(self):
        self._table.advance_to(self._clock.now())
        cube = self._table.robot.cube_state()
        rotation = cube.rotation[:, :2].T.ravel()
        self.send({"object_pos": cube.position_m, "object_rot6d": rotation, "object_vel": cube.velocity_m_s})
        return super().read()


@pytest.fixture(params=[("panda", "mujoco"), ("panda", "pybullet"), ("omx", "pybullet")], ids="-".join)
def table(request):
    table = TableStandIn("PandaPickAndPlace", *request.param, seed=1)
    yield table
    table.robot.close()


def test_every_cube_comes_to_its_goal_and_is_set_down(table):
    description, clock = table.robot.description, LivingClock()
    resolution = RAD_PER_COUNT if description.bus else 0.0
    arm = clock.arm = EmulatedArm(table.robot, clock.now(), resolution)
    link = LoopbackLink(make_device(description.protocol, arm), arm, clock)
    log, eyes, policy = MemoryLog(), Eyes(table, clock), ScriptedPolicy(table._env, Picker)
    loop = ControlLoop(
        DRIVERS[description.name](description, lambda: link, clock=clock),
        policy,
        LoopConfig(goals=GOALS, seed=0),
        clock=clock,
        sources=[eyes],
        put_back=lambda trouble: True,
        recorder=log,
    )
    report = loop.run()
    assert (report.end_reason, report.successes) == ("goals_done", GOALS)
    assert report.limit_violations == arm.witness.commands_outside_limits == 0
    assert report.safety_events == {}
    recording = log.recording()
    opening, phase = recording.command["gripper_m"][:, 0], recording.timing["phase"]
    half_m = policy.interface.goal.low[2]
    assert opening.min() < 2 * half_m
    assert opening.max() <= description.gripper.opening_max_m
    # Between goals it is let go of where it stands, not dropped.
    first = np.flatnonzero(
        (phase == "homing") & (np.arange(len(phase)) > np.flatnonzero(phase == "running")[0])
    )[0]
    opens = first + np.flatnonzero(np.diff(opening[first:]) > 0)[0]
    assert opening[opens] < 2 * half_m
    height = recording.sources["object_pos"]["value"][:, 2]
    then = np.searchsorted(recording.sources["object_pos"].time_s, recording.command.time_s[opens])
    assert height[then] < half_m + 0.012
