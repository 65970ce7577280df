"""Robots of other packages, found by their entry points."""

import json
import subprocess
import sys
from importlib import resources

import pytest

from wpg.hardware_bridge.description import brought_robots, copy_description, load_description
from wpg.hardware_bridge.errors import DescriptionError

MODULE = """
from pathlib import Path

import msgspec

from wpg.hardware_bridge.description import load_description

path = Path(__file__).with_name("shed_arm.toml")
number = 3


def renamed():
    return msgspec.structs.replace(load_description("panda"), name="shop_arm")


def broken():
    raise RuntimeError("no licence")
"""
ENTRIES = """[wpg.robots]
shed_arm = shed_robots:path
shop_arm = shed_robots:renamed
odd_arm = shed_robots:number
sold_arm = shed_robots:broken
lost_arm = shed_robots:nothing
"""


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """What an installed package leaves in site-packages."""
    info = tmp_path / "shed_robots-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shed-robots\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "shed_robots.py").write_text(MODULE)
    panda = (resources.files("wpg.hardware_bridge") / "robots" / "panda.toml").read_text()
    (tmp_path / "shed_arm.toml").write_text(panda.replace('"panda"', '"shed_arm"'))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shed_robots", raising=False)
    return tmp_path


def test_they_are_known_by_name():
    assert brought_robots() == ("lost_arm", "odd_arm", "shed_arm", "shop_arm", "sold_arm")
    assert load_description("shed_arm").name == "shed_arm"
    assert load_description("shop_arm").joint_names == load_description("panda").joint_names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odd_arm", "brought by shed_robots:number: expected a RobotDescription or a path, found int"),
        ("sold_arm", "robot sold_arm, brought by shed_robots:broken: cannot be loaded: no licence"),
        ("lost_arm", "cannot be loaded: .* has no attribute 'nothing'"),
        (
            "no_arm",
            "unknown robot 'no_arm': expected one of .*panda.*shop_arm.*, the path of a .toml file, "
            "or for simulation that of an MJCF file [(].xml[)] or menagerie:NAME$",
        ),
        (
            "arms/my_arm.urdf",
            "^arms/my_arm.urdf: a URDF needs a description: give the path of a .toml file beside it that has "
            r'\[simulation\] model = "my_arm.urdf"$',
        ),
    ],
)
def test_what_cannot_be_had_is_named(name, message):
    with pytest.raises(DescriptionError, match=message):
        load_description(name)


def test_a_copy_does_not_follow_its_file(package):
    file = package / "shed_arm.toml"
    description, content = load_description(file), copy_description(file)
    file.unlink()
    assert load_description(content) == description
    with pytest.raises(DescriptionError, match=r"^robot: .*float.* at `\$\.watchdog_s`"):
        load_description(content | {"watchdog_s": "long"})


def test_wpg_list_names_them(package):
    command = [sys.executable, "-m", "wpg.cli.main", "list", "--json"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(package)}
    )
    assert "shed_arm" in json.loads(result.stdout)["robots"]
