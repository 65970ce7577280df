"""Which driver a robot is given, and drivers that other packages bring."""

from importlib.metadata import EntryPoint

import msgspec
import pytest

from wpg.hardware_bridge import drivers
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import DescriptionError, LinkError, LinkUrlError
from wpg.hardware_bridge.franka.robot import FrankaRobot
from wpg.hardware_bridge.lerobot_robot import LeRobotRobot
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import notices_of
from wpg.hardware_bridge.session import open_robot


def open_can(description, url, *, key, calibration):
    robot = KinematicRobot(description)
    robot.opened = (url, key, calibration)
    return robot


@pytest.fixture
def brought(monkeypatch):
    """Another package is installed, whose entry point names this module's function."""
    monkeypatch.setattr(EntryPoint, "load", lambda point: {"here:open_can": open_can}[point.value])

    def bring(value):
        point = EntryPoint(name="can", value=value, group=drivers.GROUP)
        monkeypatch.setattr(drivers, "entry_points", lambda group: [point] if group == drivers.GROUP else [])

    return bring


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("udp://127.0.0.1:1", NativeRobot),
        ("serial:///dev/ttyUSB0", NativeRobot),
        ("fci://127.0.0.1", FrankaRobot),
        ("lerobot:so101_follower?port=/dev/ttyACM0", LeRobotRobot),
    ],
)
def test_link_or_else_the_description_decides(description, url, driver):
    assert type(open_robot(description, url)) is driver


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("pty:", True),
        ("udp://127.0.0.1:1", True),
        ("lerobot:so101_follower?port=/dev/ttyACM0", True),
        ("usb://7", True),
        ("wpg/PandaReach-v0", False),
        ("my_envs:Reach-v0", False),
        ("run.mcap", False),
        ("native", False),
    ],
)
def test_links_among_environments_and_files(text, link):
    assert drivers.is_link(text) is link


def test_driver_of_another_package_by_the_description(description, brought, tmp_path):
    brought("here:open_can")
    own = msgspec.structs.replace(description, protocol="can")
    robot = open_robot(own, "serial:///dev/ttyUSB0", key=b"k", calibration=tmp_path)
    assert robot.opened == ("serial:///dev/ttyUSB0", b"k", tmp_path)


def test_driver_of_another_package_by_the_link(description, brought):
    brought("here:open_can")
    assert open_robot(description, "can://can0").opened == ("can://can0", None, None)
    assert "can" in drivers.protocol_names()
    assert drivers.is_link("can:can0")


def test_shipped_protocols_are_not_replaced(description, brought, monkeypatch):
    brought("here:open_can")
    point = EntryPoint(name="native", value="here:open_can", group=drivers.GROUP)
    monkeypatch.setattr(drivers, "entry_points", lambda group: [point])
    assert type(open_robot(description, "udp://127.0.0.1:1")) is NativeRobot


def test_protocol_that_nobody_speaks(description):
    own = msgspec.structs.replace(description, protocol="ethercat")
    with pytest.raises(DescriptionError, match="no driver of protocol 'ethercat', only of native, dynamixel"):
        open_robot(own, "udp://127.0.0.1:1")


def test_package_that_is_broken(description, brought, monkeypatch):
    brought("gone:open_can")

    def load(point):
        raise ModuleNotFoundError("No module named 'gone'")

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(DescriptionError, match="protocol 'can': gone:open_can cannot be loaded: No module"):
        open_robot(description, "can://can0")


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_another_machine_needs_a_key(description, scheme):
    url = f"{scheme}://192.0.2.1:7700"
    with pytest.raises(LinkError, match=r"make one by `wpg key FILE`, give it by --key FILE"):
        open_robot(description, url)
    assert isinstance(open_robot(description, url, key=b"k" * 32), NativeRobot)


def test_servos_on_another_machine_are_noticed_since_they_know_no_key():
    arm = load_description("so101")
    assert notices_of(open_robot(arm, "serial:///dev/ttyUSB0")) == ()
    assert "anyone on the network" in notices_of(open_robot(arm, "tcp://192.0.2.1:7700"))[0]


@pytest.mark.parametrize(
    ("robot", "url", "option"),
    [
        ("panda", "udp://127.0.0.1:7777", "calibration"),
        ("so101", "serial:///dev/ttyUSB0", "key"),
        ("omx", "serial:///dev/ttyUSB0", "key"),
        ("panda", "fci://127.0.0.1", "key"),
        ("panda", "fci://127.0.0.1", "calibration"),
    ],
)
def test_what_a_protocol_has_no_use_for_is_refused(tmp_path, robot, url, option):
    given = {"key": b"k" * 32, "calibration": tmp_path / "arm.json"}
    with pytest.raises(LinkUrlError, match=f"takes no {option}: leave it out"):
        open_robot(load_description(robot), url, **{option: given[option]})
