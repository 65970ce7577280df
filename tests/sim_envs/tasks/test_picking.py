"""Picking by the control loop: a scripted policy, a device's bytes, and physics, on one simulated clock."""

import numpy as np

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import make_device
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.sources.local import LocalSource
from wpg.hardware_bridge.testing.clocks import EmulationClock
from wpg.hardware_bridge.testing.loopback import LoopbackLink
from wpg.hardware_bridge.testing.memory_log import MemoryLog
from wpg.sim_envs.tasks.scripts import Picker, ScriptedPolicy
from wpg.sim_envs.tasks.stand_in import TableStandIn


class Eyes(LocalSource):
    """A source that sends the true pose of the cube."""

    def __init__(self, table, clock) -> None:
        super().__init__(("object_pos", "object_rot6d", "object_vel"), clock=clock)
        self._table, self._clock = table, clock

    def read(self):
        self._table.advance_to(self._clock.now())
        cube = self._table.robot.cube_state()
        rotation = cube.rotation[:, :2].T.ravel()
        self.send({"object_pos": cube.position_m, "object_rot6d": rotation, "object_vel": cube.velocity_m_s})
        return super().read()


def picked(table, driver, goals):
    """Run the script over the arm's own protocol; returns what the run recorded."""
    description, clock = table.robot.description, EmulationClock()
    resolution = 0.0 if description.bus is None else RAD_PER_COUNT
    arm = clock.arm = EmulatedArm(table.robot, clock.now(), resolution)
    link = LoopbackLink(make_device(description.protocol, arm), arm, clock)
    log, policy = MemoryLog(), ScriptedPolicy(table._env, Picker)
    report = ControlLoop(
        driver(description, lambda: link, clock=clock),
        policy,
        LoopConfig(goals=goals, seed=0),
        clock=clock,
        sources=[Eyes(table, clock)],
        put_back=lambda trouble: True,
        recorder=log,
    ).run()
    assert (report.end_reason, report.successes) == ("goals_done", goals)
    assert report.limit_violations == arm.witness.commands_outside_limits == 0
    assert report.safety_events == {}
    recording = log.recording()
    opening, widest_m = recording.command["gripper_m"], description.gripper.opening_max_m
    assert 0.0 <= opening.min() < 2 * policy.interface.goal.low[2]
    assert opening.max() <= widest_m
    return recording


def test_cubes_come_to_their_goals_and_are_set_down_between_them():
    table = TableStandIn("PandaPickAndPlace", "panda", "mujoco", seed=1)
    recording = picked(table, NativeRobot, 2)
    opening, phase = recording.command["gripper_m"][:, 0], recording.timing["phase"]
    after = np.flatnonzero(phase == "running")[0]
    homing = after + np.flatnonzero(phase[after:] == "homing")[0]
    opens = homing + np.flatnonzero(np.diff(opening[homing:]) > 0)[0]
    assert opening[opens] < 0.04
    cube = recording.sources["object_pos"]
    then = np.searchsorted(cube.time_s, recording.command.time_s[opens])
    assert cube["value"][then, 2] < 0.03
    table.robot.close()


def test_over_a_servo_bus():
    table = TableStandIn("PandaPickAndPlace", "omx", "pybullet", seed=1)
    picked(table, DynamixelRobot, 1)
    table.robot.close()
