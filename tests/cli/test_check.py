"""``wpg check`` on servos with limits of their own, in the time of a clock that is moved by hand."""

import functools
import signal

import pytest

from wpg.cli import main as cli
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import make_device
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import LinkError
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.robot import StopMode
from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.testing.clocks import ManualClock
from wpg.hardware_bridge.testing.loopback import LoopbackLink


@pytest.fixture
def clock():
    return ManualClock(100.0)


@pytest.fixture
def driver(clock):
    """Of emulated servos."""
    description = load_description("omx")
    arm = EmulatedArm(KinematicRobot(description), clock.now(), RAD_PER_COUNT)
    device = make_device("dynamixel", arm)
    return DynamixelRobot(description, lambda: LoopbackLink(device, arm, clock), clock=clock)


@pytest.fixture
def check(monkeypatch, capsys, driver, clock):
    """Runs ``wpg check omx`` on emulated servos; its exit code, and all that it says."""
    monkeypatch.setattr("wpg.cli.commands.check.robot_at", lambda *_, **__: driver)
    monkeypatch.setattr("wpg.cli.commands.check.check_joints", functools.partial(check_joints, clock=clock))

    def run(*options: str) -> tuple[int, str]:
        code = cli.main(("check", "omx", "--link", "pty:", *options))
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


def test_servos_that_would_take_goals_beyond_are_named(check):
    code, said = check()
    assert code == 0
    assert "notice servo 12 (joint2): takes goals from 0 to 4095, its joint's limits are 1071 to 3025" in said


def test_limits_are_written_when_asked(check):
    # A held arm would refuse: this one was never armed.
    code, said = check("--set-limits")
    assert code == 0
    assert "servo 12 (joint2): took goals from 0 to 4095, now 1071 to 3025" in said
    assert "notice" not in said


@pytest.mark.parametrize("wrong", [("--policy", "nowhere.onnx"), ("--stop", "damp")])
def test_nothing_is_written_where_the_check_cannot_go_on(check, driver, monkeypatch, wrong):
    monkeypatch.setattr(driver, "keep_limits", lambda: pytest.fail("written"))
    assert check("--set-limits", *wrong)[0] == 1


def test_the_result_is_shown_though_its_file_cannot_be_written(check):
    code, said = check("--json", "/dev/full")
    assert code == 1
    assert "joint4" in said
    assert "wpg: /dev/full: cannot be written: No space left on device" in said


def test_limits_are_not_written_into_a_held_arm(check):
    assert check()[0] == 0
    code, said = check("--set-limits")
    assert code == 1
    assert (
        "servo 12 (joint2): its limits can be written without torque only: support the arm, "
        "release it with `wpg check … --stop release`, and try again" in said
    )


def test_a_released_arm_takes_its_limits(check):
    assert check("--stop", "release")[0] == 0
    code, said = check("--set-limits")
    assert code == 0
    assert "servo 12 (joint2): took goals from 0 to 4095, now 1071 to 3025" in said


def test_a_stop_that_the_robot_cannot_do_is_refused_before_it_is_armed(check, driver, monkeypatch):
    monkeypatch.setattr(driver, "arm", lambda: pytest.fail("armed"))
    code, said = check("--stop", "damp")
    assert code == 1
    assert "stop: this robot can hold or release, not damp" in said


@pytest.mark.parametrize(
    ("number", "reason", "expected"),
    [
        (signal.SIGTERM, "stopped by SIGTERM", 130),
        (signal.SIGTSTP, "cannot be suspended", 130),
        (signal.SIGQUIT, "emergency stop by SIGQUIT: at rest", 1),
    ],
)
def test_a_signal_ends_it_with_the_arm_held(check, driver, number, reason, expected):
    write, sent, modes = driver.write, [], []

    def writing(command):
        sent.append(command)
        if len(sent) == 20:
            signal.raise_signal(number)
        return write(command)

    stop = driver.stop
    driver.write = writing
    driver.stop = lambda mode: modes.append(mode) or stop(mode)
    code, said = check()
    assert code == expected
    assert reason in said
    assert modes == [StopMode.HOLD]
    with pytest.raises(LinkError, match="not connected"):
        driver.read()


def test_an_arm_outside_its_box_is_not_armed(check, driver, monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "arm", lambda: pytest.fail("armed"))
    file = tmp_path / "safety.toml"
    file.write_text("workspace_m = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]")
    code, said = check("--safety", str(file))
    assert code == 1
    assert "workspace: expected the tool between [1.0, 1.0, 1.0] and [2.0, 2.0, 2.0] m" in said


def test_limits_of_what_has_no_servos(monkeypatch, capsys):
    assert cli.main(("check", "panda", "--link", "udp://127.0.0.1:1", "--set-limits")) == 1
    assert "--set-limits: expected an arm on a servo bus" in " ".join(capsys.readouterr().err.split())
