"""The driver as a user has it: a gateway in a process of its own."""

import os
import signal
import sys

import numpy as np
import pytest

from wpg.hardware_bridge.errors import LinkError, LinkUrlError, ProtocolError, StaleStateError
from wpg.hardware_bridge.franka.robot import FrankaRobot, parse_fci_url
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.robot import JointCommand, Robot, RobotStatus, StopMode, notices_of
from wpg.hardware_bridge.session import open_robot


@pytest.fixture
def make_robot(description, fake_gateway):
    made = []

    def make(*arguments, link="fci://fake"):
        command = (sys.executable, str(fake_gateway), *arguments)
        made.append(FrankaRobot(description, link, gateway=command))
        return made[-1]

    yield make
    for robot in made:
        robot.close()


@pytest.fixture
def cores():
    """Those of this process, whose loop stays on the first."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        pytest.skip("one core alone")
    with realtime(RealtimeConfig(priority=None, cpu=found[0])):
        yield found


def state_of(robot):
    """A state, however busy the machine."""
    for _ in range(1000):
        try:
            return robot.read()
        except StaleStateError:
            continue
    raise AssertionError("no state")


def states_of(robot, count):
    return [state_of(robot) for _ in range(count)]


def arm_until_it_fails(robot):
    for _ in range(1000):
        robot.arm()


def test_from_connecting_to_the_end(make_robot, description):
    robot = make_robot()
    assert isinstance(robot, Robot)
    assert robot.stop_modes == {StopMode.HOLD}
    robot.connect()
    home = description.limits("home_rad")
    np.testing.assert_allclose(state_of(robot).joint_pos, home, atol=1e-6)
    robot.arm()
    robot.write(JointCommand(joint_pos=home, joint_vel=np.zeros(7)))
    robot.stop(StopMode.HOLD)
    assert state_of(robot).status is RobotStatus.HOLDING
    with pytest.raises(ProtocolError, match="can only hold over FCI, not release"):
        robot.stop(StopMode.RELEASE)
    robot.close()
    robot.close()
    assert robot.report.witness.arms == 1
    assert robot.report.reflexes == []
    robot.connect()
    assert state_of(robot).status is RobotStatus.IDLE


def test_bridge_that_goes_without_a_word_leaves_the_arm_at_rest(make_robot):
    robot = make_robot()
    robot.connect()
    robot.arm()
    process = robot._process
    process.socket.close()
    robot._native.close()
    process.close()
    assert process.report.witness.stops == {"hold": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_the_whole_group_leaves_the_gateway_to_the_bridge(make_robot, number):
    robot = make_robot()
    robot.connect()
    robot.arm()
    os.kill(robot.gateway_pid, number)
    robot.stop(StopMode.HOLD)
    assert state_of(robot).status is RobotStatus.HOLDING
    robot.close()
    assert robot.report.witness.stops["hold"] >= 1


def test_gateway_is_killed(make_robot):
    robot = make_robot()
    robot.connect()
    os.kill(robot._process._process.pid, signal.SIGKILL)
    with pytest.raises(LinkError, match="has ended"):
        states_of(robot, 1000)


def test_robot_dies_in_motion_and_the_driver_says_so(make_robot):
    robot = make_robot("dies")
    robot.connect()
    with pytest.raises(LinkError, match="link fci://fake: UDP receive: Timeout"):
        arm_until_it_fails(robot)


def test_robot_dies_as_it_is_armed_and_the_driver_says_so(make_robot):
    robot = make_robot("dies as it is armed")
    robot.connect()
    with pytest.raises(LinkError, match="link fci://fake: UDP receive: Timeout"):
        robot.arm()
    assert robot.report is None


def test_robot_that_refuses_to_move_says_why(make_robot):
    robot = make_robot("refuses to move")
    robot.connect()
    with pytest.raises(ProtocolError, match="it reports FAULT: Move command rejected: brakes are closed"):
        robot.arm()
    assert state_of(robot).fault == "Move command rejected: brakes are closed"


def test_gateway_stays_on_its_core_though_the_loop_has_another(make_robot, cores):
    robot = make_robot(link=f"fci://fake?cpu={cores[1]}")
    robot.connect()
    assert os.sched_getaffinity(robot.gateway_pid) == {cores[1]}


def test_gateway_is_not_bound_to_the_loops_core(make_robot, cores):
    robot = make_robot()
    robot.connect()
    assert os.sched_getaffinity(robot.gateway_pid) >= set(cores)


def test_rights_that_the_gateway_lacks_are_noticed(make_robot, cores):
    robot = make_robot(link="fci://fake?cpu=4095")
    assert notices_of(robot) == ()
    robot.connect()
    assert any(notice.startswith("gateway: not pinned to core 4095") for notice in notices_of(robot))
    assert os.sched_getaffinity(robot.gateway_pid) >= set(cores)


def test_gateway_that_prints_what_is_no_message(description):
    robot = FrankaRobot(description, "fci://fake", gateway=(sys.executable, "-c", "print('no license')"))
    with pytest.raises(LinkError, match="printed no message, but 'no license'"):
        robot.connect()


def test_gateway_that_cannot_start(description):
    robot = FrankaRobot(description, "fci://fake", gateway=(sys.executable, "-c", "pass"))
    with pytest.raises(LinkError, match="does not get ready"):
        robot.connect()


def test_link_chooses_the_driver(description):
    assert isinstance(open_robot(description, "fci://127.0.0.1"), FrankaRobot)


def test_url():
    url = parse_fci_url("fci://172.16.0.2?recover=yes&cpu=1")
    assert (url.host, url.recover, url.cpu) == ("172.16.0.2", True, 1)
    plain = parse_fci_url("fci://panda.local")
    assert (plain.recover, plain.mode) == (False, "velocity")
    assert parse_fci_url("fci://panda.local?mode=torque").mode == "torque"


def test_what_is_streamed_is_the_links_choice(description, fake_gateway):
    command = (sys.executable, str(fake_gateway), "takes no velocities")
    robot = FrankaRobot(description, "fci://fake?mode=position", gateway=command)
    robot.connect()
    robot.arm()
    robot.close()
    assert robot.report.witness.arms == 1


@pytest.mark.parametrize(
    "text",
    [
        "fci://",
        "fci://a:1337",
        "fci://a/b",
        "fci://a?cpu=one",
        "fci://a?cpu=-1",
        "fci://a?speed=1",
        "fci://a?recover=maybe",
        "fci://a?mode=force",
    ],
)
def test_bad_urls(text):
    with pytest.raises(LinkUrlError, match="for example fci://"):
        parse_fci_url(text)
