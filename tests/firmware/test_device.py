"""The reference firmware, built for this machine, as the other end of the native frames."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import BridgeError, ProtocolError
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.protocols.native import (
    Arm,
    Command,
    Frame,
    FrameDecoder,
    Identify,
    Poll,
    Stop,
    encode_frame,
)
from wpg.hardware_bridge.robot import JointCommand, RobotStatus, StopMode

FIRMWARE = Path(__file__).parents[2] / "firmware"
KEY = bytes(range(32))
FRAMES = 100_000


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Both host builds. Without a compiler these tests fail, they are not left out."""
    for tool in ("cc", "make"):
        assert shutil.which(tool), f"the firmware's tests need {tool}: apt install gcc libc6-dev make"
    folder = tmp_path_factory.mktemp("firmware")
    command = ["make", "-C", FIRMWARE, f"BUILD={folder}", "host", "sanitized"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def description():
    return load_description(FIRMWARE / "desk_arm.toml")


class Host:
    """A running device."""

    def __init__(self, build, *arguments):
        self.process = subprocess.Popen(
            [build / "host-sanitized", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.hello = json.loads(self.process.stdout.readline())

    def end(self):
        """What it has counted."""
        self.process.terminate()
        output, errors = self.process.communicate(timeout=10)
        assert self.process.returncode == 0, errors
        return json.loads(output)


@pytest.fixture(params=[["pty"], ["udp", "0"]], ids=["pty", "udp"])
def host(request, build):
    host = Host(build, *request.param)
    yield host
    host.process.kill()
    host.process.communicate()


@pytest.fixture
def robot(host, description):
    robot = NativeRobot(description, host.hello["link"], read_timeout_s=1.0)
    robot.connect()
    yield robot
    robot.close()


def at(*joint_pos, gripper_m=None):
    return JointCommand(joint_pos=np.array(joint_pos), joint_vel=np.zeros(3), gripper_m=gripper_m)


def test_tells_who_it_is(robot):
    state = robot.read()
    np.testing.assert_array_equal(state.joint_pos, np.zeros(3))
    assert state.gripper_m == 0.0
    assert state.status is RobotStatus.IDLE


def test_follows_an_armed_bridge(robot, host):
    robot.arm()
    for step in range(1, 40):
        robot.write(at(0.01 * step, 0.0, -0.01 * step, gripper_m=0.001 * step))
        state = robot.read()
    assert state.status is RobotStatus.ARMED
    assert 0.0 < state.gripper_m <= 0.039
    robot.stop(StopMode.HOLD)
    robot.close()
    counts = host.end()
    assert (counts["commands_ok"], counts["commands_refused"], counts["frames_bad"]) == (39, 0, 0)


def test_every_joint_is_as_described(host, description):
    patient = SafetyConfig(stale_s=0.5, overrun_s=0.5)
    checks = check_joints(NativeRobot(description, host.hello["link"], read_timeout_s=0.5), safety=patient)
    assert [check.moved for check in checks] == ["base", "shoulder", "elbow"]
    assert all(abs(check.scale - 1) < 0.1 for check in checks)


def test_holds_when_nobody_commands(robot, host):
    robot.arm()
    while robot.read().status is RobotStatus.ARMED:
        pass
    robot.write(at(0.001, 0.0, 0.0))
    state = robot.read()
    assert (state.status, state.ordered) == (RobotStatus.HOLDING, False)
    robot.arm()
    assert robot.read().status is RobotStatus.ARMED
    robot.close()
    counts = host.end()
    assert counts["holds"] >= 1
    assert counts["commands_refused"] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -2.6, 2.6, 1.0])
def test_refuses_what_is_outside_its_limits(robot, host, bad):
    robot.arm()
    robot._send(Command(1, np.array([bad, 0.0, 0.0, 0.0]), np.zeros(4)))
    np.testing.assert_array_equal(robot.read().joint_pos, np.zeros(3))
    robot._send(Command(2, np.zeros(3), np.zeros(3)))
    robot._send(Command(3, np.zeros(4), np.array([0.0, 9.0, 0.0, 0.0])))
    robot._send(Command(4, np.array([0.0, 0.0, 0.0, 0.01]), np.zeros(4)))
    robot.read()
    robot.close()
    counts = host.end()
    assert (counts["commands_ok"], counts["commands_refused"]) == (0, 4)


def test_a_tick_that_jumps_buys_no_way(robot, host):
    """Its watchdog waits for five periods: 2 rad/s make 0.12 rad of them and one more."""
    robot.arm()
    robot._send(Command(1, np.zeros(4), np.zeros(4)))
    robot._send(Command(1000, np.array([0.13, 0.0, 0.0, 0.0]), np.zeros(4)))
    robot._send(Command(1000, np.array([0.11, 0.0, 0.0, 0.0]), np.zeros(4)))
    robot.read()
    robot.close()
    counts = host.end()
    assert (counts["commands_ok"], counts["commands_refused"]) == (2, 1)


def test_ticks_that_do_not_count_up_buy_none(robot, host):
    robot.arm()
    for number, tick in enumerate((2, 2, 1, 2, 3), 1):
        robot._send(Command(tick, np.array([0.019 * number, 0.0, 0.0, 0.0]), np.zeros(4)))
    robot.read()
    robot.close()
    counts = host.end()
    # The fifth goes too far from the first, the only one before it that was followed.
    assert (counts["commands_ok"], counts["commands_refused"]) == (1, 4)


def read_until(robot, done):
    """States until one is as awaited; a device that never gets there ends by the suite's own timeout."""
    while not done(state := robot.read()):
        pass
    return state


def test_a_fault_stops_the_arm_and_stops_are_obeyed_in_it(robot, host):
    robot.arm()
    host.process.send_signal(signal.SIGUSR1)
    read_until(robot, lambda state: state.status is RobotStatus.FAULT)
    robot.write(at(0.01, 0.0, 0.0))
    with pytest.raises(ProtocolError, match="expected RELEASED, found FAULT"):
        robot.stop(StopMode.RELEASE)
    with pytest.raises(ProtocolError, match="does not arm: it reports FAULT"):
        robot.arm()
    robot.close()
    counts = host.end()
    # By itself, or by its watchdog where that was first, and by the bridge.
    assert counts["stops"] >= 2
    assert (counts["commands_ok"], counts["commands_refused"], counts["arms"]) == (0, 1, 1)


def test_an_arm_that_measures_no_number_is_not_armed(robot, host):
    host.process.send_signal(signal.SIGUSR2)
    read_until(robot, lambda state: np.isnan(state.joint_pos[0]))
    with pytest.raises(ProtocolError, match="it reports IDLE, and measures nothing finite"):
        robot.arm()
    robot.close()
    assert host.end()["arms"] == 0


def test_an_arm_that_measures_no_number_follows_nothing(robot, host):
    robot.arm()
    host.process.send_signal(signal.SIGUSR2)
    read_until(robot, lambda state: np.isnan(state.joint_pos[0]))
    robot.write(at(0.001, 0.0, 0.0))
    robot.close()
    counts = host.end()
    assert (counts["commands_ok"], counts["commands_refused"]) == (0, 1)


def test_its_gripper_needs_a_description(host, description):
    bare = msgspec.structs.replace(description, gripper=None)
    with pytest.raises(ProtocolError, match=r"expected base, shoulder, elbow, found base, .* elbow, gripper"):
        NativeRobot(bare, host.hello["link"], connect_timeout_s=1.0).connect()


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (StopMode.HOLD, RobotStatus.HOLDING),
        (StopMode.DAMP, RobotStatus.DAMPING),
        (StopMode.RELEASE, RobotStatus.RELEASED),
    ],
)
def test_stops(robot, mode, status):
    robot.arm()
    robot.stop(mode)
    robot.write(at(0.001, 0.0, 0.0))
    state = robot.read()
    assert (state.status, state.ordered) == (status, True)
    robot.arm()
    assert not robot.read().ordered


def test_recorded_and_foreign_frames_do_nothing(robot, host):
    robot.arm()
    command = Command(1, np.zeros(4), np.zeros(4))
    recorded = encode_frame(Frame(robot._session, robot._sequence + 1, 0, command))
    for _ in range(3):
        robot._connected.send(recorded)
    robot._connected.send(encode_frame(Frame(robot._session ^ 1, 99, 0, Arm())))
    robot._sequence += 1
    robot.read()
    robot.close()
    counts = host.end()
    assert (counts["commands_ok"], counts["frames_foreign"], counts["arms"]) == (1, 3, 1)


def test_one_commander_at_a_time(robot, host, description):
    robot.arm()
    other = NativeRobot(description, host.hello["link"], read_timeout_s=1.0)
    # Over the same link: a device answers whoever spoke last.
    other._link = robot._link
    other._session = other._identify().session
    robot.write(at(0.0, 0.0, 0.0))
    with pytest.raises(ProtocolError, match="another client commands"):
        other.arm()


def test_tagged_frames(build, description, tmp_path):
    key = tmp_path / "key"
    key.write_text(KEY.hex() + "\n")
    host = Host(build, "udp", "0", key)
    keyed = NativeRobot(description, host.hello["link"], key=KEY, read_timeout_s=1.0)
    keyed.connect()
    keyed.arm()
    assert keyed.read().status is RobotStatus.ARMED
    with pytest.raises(BridgeError):
        NativeRobot(description, host.hello["link"], connect_timeout_s=0.2).connect()
    with pytest.raises(BridgeError):
        NativeRobot(description, host.hello["link"], key=KEY[::-1], connect_timeout_s=0.2).connect()
    keyed.close()
    counts = host.end()
    assert counts["frames_unauthenticated"] >= 4
    assert counts["arms"] == 1


def mutated_frames(count, key=None):
    """Frames of a bridge, most of them damaged, as one stream."""
    generator = np.random.default_rng(5)
    messages = [Identify(), Poll(), Arm(), Stop(StopMode.DAMP)]
    messages += [Command(7, generator.normal(size=n), generator.normal(size=n)) for n in (0, 1, 3, 8)]
    whole = [
        encode_frame(Frame(int(generator.integers(2**32)), index, 0, message), key)
        for index, message in enumerate(messages * 8)
    ]
    choices = generator.integers(0, (len(whole), 6, 10_000, 256), size=(count, 4)).tolist()
    stream = []
    for index, kind, anywhere, value in choices:
        data = bytearray(whole[index])
        place = anywhere % len(data)
        if kind == 1:
            data[place] = value
        elif kind == 2:
            del data[place]
        elif kind == 3:
            data.insert(place, value)
        elif kind == 4:
            data = data[:place]
        elif kind == 5:
            data = bytearray(generator.bytes(anywhere % 400))
        stream.append(bytes(data))
    return b"".join(stream)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "tagged"])
def test_agrees_with_the_bridge_on_every_damaged_frame(build, tmp_path, key):
    """Two implementations that share no code: neither crashes, and they count the same frames as good."""
    stream = mutated_frames(FRAMES // 2, key)
    arguments = []
    if key:
        (tmp_path / "key").write_text(key.hex())
        arguments = [tmp_path / "key"]
    command = [build / "host-sanitized", "stdin", *arguments]
    done = subprocess.run(command, input=stream, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    counts = json.loads(done.stdout)
    decoder = FrameDecoder(key)
    decoder.feed(stream)
    expected = (decoder.frames_ok, decoder.frames_bad, decoder.frames_unauthenticated)
    assert (counts["frames_ok"], counts["frames_bad"], counts["frames_unauthenticated"]) == expected
    assert decoder.frames_ok > FRAMES // 20
    assert decoder.frames_bad > FRAMES // 20
    assert counts["arms"] == counts["commands_ok"] == 0
