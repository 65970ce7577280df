"""A robot of LeRobot's behind our interface, by a class that has the same manners."""

import sys
from types import ModuleType, SimpleNamespace

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import LinkError, LinkUrlError, ProtocolError, StaleStateError
from wpg.hardware_bridge.lerobot_robot import LeRobotRobot, make_lerobot
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.robot import JointCommand, Robot, RobotStatus, StopMode
from wpg.hardware_bridge.testing.clocks import ManualClock

URL = "lerobot:so101_follower?port=/dev/ttyACM0&id=arm&use_degrees=true"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


class FakeFollower:
    """Goes at once where it is sent, in degrees."""

    def __init__(self, joints=JOINTS, mode="DEGREES"):
        motor = SimpleNamespace(norm_mode=SimpleNamespace(name=mode))
        self.bus = SimpleNamespace(
            motors=dict.fromkeys(joints, motor),
            enable_torque=lambda: setattr(self, "torque", True),
            disable_torque=lambda: setattr(self, "torque", False),
        )
        self.action_features = {f"{joint}.pos": float for joint in joints}
        self.place = {f"{joint}.pos": 0.0 for joint in joints} | {"gripper.pos": 37.0}
        self.is_connected = False
        self.is_calibrated = True
        self.torque = None
        self.fails = False
        self.sent = []

    def connect(self, calibrate):
        assert calibrate is False
        if self.fails:
            raise ConnectionError("Could not connect on port")
        self.is_connected = True

    def disconnect(self):
        self.is_connected = False

    def get_observation(self):
        self._work()
        return dict(self.place)

    def send_action(self, action):
        self._work()
        self.sent.append(action)
        self.place = {key: min(value, 90.0) for key, value in action.items()}
        return dict(self.place)

    def _work(self):
        if self.fails or not self.is_connected:
            raise ConnectionError("There is no status packet!")


@pytest.fixture
def arm():
    description = load_description("so101")
    joints = tuple(msgspec.structs.replace(joint, home_rad=0.0) for joint in description.joints)
    return msgspec.structs.replace(description, joints=joints)


@pytest.fixture
def device():
    return FakeFollower()


@pytest.fixture
def make(arm, device):
    def make_robot(url=URL):
        clock = ManualClock()
        robot = LeRobotRobot(arm, url, make=lambda kind, options: device, clock=clock)
        robot.clock = clock
        return robot

    return make_robot


@pytest.fixture
def robot(make):
    robot = make()
    robot.connect()
    return robot


def test_interface(robot):
    assert isinstance(robot, Robot)


def test_type_and_options_of_the_link_reach_lerobot(arm, device):
    asked = []
    robot = LeRobotRobot(
        arm, URL + "&max_relative_target=5.5", make=lambda *what: asked.append(what) or device
    )
    robot.connect()
    options = {"port": "/dev/ttyACM0", "id": "arm", "use_degrees": True, "max_relative_target": 5.5}
    assert asked == [("so101_follower", options)]


def test_degrees_become_radians_both_ways(robot, device):
    device.place["elbow_flex.pos"] = 90.0
    assert robot.read().joint_pos[2] == pytest.approx(np.pi / 2)
    robot.arm()
    sent = robot.write(JointCommand(joint_pos=np.full(5, 0.5), joint_vel=np.zeros(5)))
    np.testing.assert_allclose(sent.joint_pos, 0.5)
    assert device.sent[-1]["wrist_roll.pos"] == pytest.approx(28.6479)


def test_what_lerobot_clips_is_told(robot, device):
    robot.arm()
    sent = robot.write(JointCommand(joint_pos=np.full(5, 1.65), joint_vel=np.zeros(5)))
    np.testing.assert_allclose(sent.joint_pos, np.pi / 2)


def test_commands_stay_within_the_description(robot, device, arm):
    robot.arm()
    robot.write(JointCommand(joint_pos=np.full(5, -9.0), joint_vel=np.zeros(5)))
    assert device.sent[-1]["elbow_flex.pos"] == pytest.approx(np.degrees(arm.joints[2].position_min_rad))


def test_joints_that_the_description_does_not_have_are_held(robot, device):
    robot.arm()
    robot.write(JointCommand(joint_pos=np.zeros(5), joint_vel=np.zeros(5)))
    assert device.sent[-1]["gripper.pos"] == 37.0


def test_velocity_is_that_of_the_positions(robot, device):
    for step in range(20):
        robot.clock.advance(0.01)
        device.place["shoulder_pan.pos"] = float(step)
        state = robot.read()
    assert state.joint_vel[0] == pytest.approx(np.radians(100.0), rel=1e-3)
    assert state.sequence == 21 - 1


def test_states_of_its_life(robot, device):
    assert robot.read().status is RobotStatus.IDLE
    robot.arm()
    assert device.torque is True
    assert robot.read().status is RobotStatus.ARMED
    robot.stop(StopMode.HOLD)
    assert robot.read().status is RobotStatus.HOLDING
    with pytest.raises(ProtocolError, match="cannot damp"):
        robot.stop(StopMode.DAMP)
    assert robot.stop_modes == {StopMode.HOLD, StopMode.RELEASE}
    robot.stop(StopMode.RELEASE)
    assert device.torque is False
    assert robot.read().status is RobotStatus.RELEASED
    robot.close()
    robot.close()
    assert not device.is_connected


def test_one_exchange_that_fails_is_a_lost_state(robot, device):
    robot.arm()
    device.fails = True
    with pytest.raises(StaleStateError, match="no status packet"):
        robot.read()
    robot.write(JointCommand(joint_pos=np.zeros(5), joint_vel=np.zeros(5)))
    device.fails = False
    assert robot.read().status is RobotStatus.ARMED


def test_stop_is_asked_for_again_where_an_exchange_is_lost(robot, device):
    robot.arm()
    observe, lost = device.get_observation, []

    def losing():
        lost.append(True)
        device.fails = len(lost) == 1
        return observe()

    device.get_observation = losing
    robot.stop(StopMode.HOLD)
    assert len(lost) == 2
    assert robot.read().status is RobotStatus.HOLDING


def test_positions_that_are_no_numbers_are_nowhere_to_hold(robot, device):
    key = next(iter(device.place))
    device.place[key] = float("nan")
    for order in (robot.arm, lambda: robot.stop(StopMode.HOLD)):
        with pytest.raises(StaleStateError, match="not finite"):
            order()
    assert device.sent == []


def test_velocities_are_known_again_once_positions_are(robot, device):
    key, place = next(iter(device.place.items()))
    velocities = []
    for seen in (place, float("nan"), place):
        device.place[key] = seen
        robot.clock.advance(0.01)
        velocities.append(robot.read().joint_vel[0])
    np.testing.assert_array_equal(velocities, [0.0, np.nan, 0.0])


def test_robot_that_is_gone_is_a_dead_link(robot, device):
    device.is_connected = False
    with pytest.raises(LinkError, match="no status packet"):
        robot.read()


@pytest.mark.parametrize("mode", ["RANGE_M100_100", "RANGE_0_100"])
def test_normalised_scales_are_refused(make, device, mode):
    device.bus.motors = FakeFollower(mode=mode).bus.motors
    with pytest.raises(
        ProtocolError, match=rf"joint shoulder_pan is normalised \({mode}\).*use_degrees=true"
    ):
        make().connect()
    assert not device.is_connected


def test_robot_without_motors_must_be_told_its_unit(make, device):
    del device.bus
    with pytest.raises(ProtocolError, match="add unit=deg or unit=rad"):
        make().connect()
    robot = make(URL + "&unit=rad")
    robot.connect()
    device.place["wrist_flex.pos"] = 0.25
    assert robot.read().joint_pos[3] == 0.25
    assert robot.stop_modes == {StopMode.HOLD}
    with pytest.raises(ProtocolError, match="cannot release"):
        robot.stop(StopMode.RELEASE)


def test_other_joints(make, device):
    device.action_features = {"left.pos": float, "right.pos": float}
    with pytest.raises(ProtocolError, match=r"expected shoulder_pan, .*found left, right"):
        make().connect()


def test_robot_that_is_not_calibrated(make, device):
    device.is_calibrated = False
    with pytest.raises(ProtocolError, match="lerobot-calibrate"):
        make().connect()
    assert not device.is_connected


def test_robot_that_does_not_answer(make, device):
    device.fails = True
    with pytest.raises(LinkError, match="Could not connect on port"):
        make().connect()


@pytest.mark.parametrize(
    "url", ["lerobot:", "lerobot:so-101", "serial:so101", "lerobot:so101_follower?unit=turns"]
)
def test_bad_links(arm, url):
    with pytest.raises(LinkUrlError):
        LeRobotRobot(arm, url)


def test_without_lerobot(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "draccus", None)
    with pytest.raises(LinkError, match="pip install lerobot"):
        make_lerobot("so101_follower", {})


def test_a_robot_of_another_package(monkeypatch, tmp_path):
    known = {}
    robots = ModuleType("lerobot.robots")
    robots.__path__ = []
    robots.RobotConfig = SimpleNamespace(get_known_choices=lambda: known)
    robots.make_robot_from_config = lambda config: config
    draccus = SimpleNamespace(decode=lambda kind, options: options)
    modules = {"lerobot": ModuleType("lerobot"), "lerobot.robots": robots, "draccus": draccus}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    plugin = "from lerobot.robots import RobotConfig\nRobotConfig.get_known_choices()['desk_arm'] = object\n"
    (tmp_path / "lerobot_robot_desk.py").write_text(plugin)
    (tmp_path / "lerobot_robot_broken.py").write_text("import a_package_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    assert make_lerobot("desk_arm", {"port": "x"}) == {"type": "desk_arm", "port": "x"}
    with pytest.raises(LinkUrlError, match="no robot of type 'other'"):
        make_lerobot("other", {})


def test_every_joint_is_as_described(make):
    robot = make()
    assert [check.fault for check in check_joints(robot, clock=robot.clock)] == [""] * 5


def test_policy_runs_on_it(make, arm):
    robot = make()
    report = ControlLoop(robot, Still(arm), LoopConfig(duration_s=1.0), clock=robot.clock).run()
    assert (report.end_reason, report.final_phase) == ("duration", "parked")
    assert report.limit_violations == 0


class Still:
    """A policy that stays where it is."""

    def __init__(self, description):
        from wpg.export.interface import ActionTerm, ObservationTerm, PolicyInterface

        count = description.num_joints
        self.interface = PolicyInterface(
            robot=description.robot_spec(),
            observation=(ObservationTerm(name="joint_pos", size=count, source="joint_pos"),),
            action=ActionTerm(
                mode="joint_position_delta",
                size=count,
                unit="rad",
                scale=(0.1,) * count,
                offset=(0.0,) * count,
            ),
            control_dt_s=0.05,
            goal=None,
        )

    def act(self, obs):
        from wpg.hardware_bridge.policy import Decision

        return Decision(np.zeros(5, dtype=np.float32), 0.0)

    def reset(self):
        pass


def test_after_a_lost_command_the_next_starts_from_the_last_that_was_sent(robot, device):
    robot.arm()
    robot.write(JointCommand(joint_pos=np.full(5, 0.1), joint_vel=np.zeros(5)))
    device.fails = True
    sent = robot.write(JointCommand(joint_pos=np.full(5, 0.4), joint_vel=np.zeros(5)))
    np.testing.assert_allclose(sent.joint_pos, 0.1)
