"""The descriptions of the shipped arms on servo buses."""

import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT

HALF_COUNT_RAD = RAD_PER_COUNT / 2 + 1e-9


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_model_for_the_engines_is_the_description(robot):
    """Frames and ranges of the URDF beside it."""
    from pathlib import Path
    from xml.etree import ElementTree

    import wpg.hardware_bridge.description as module

    description = load_description(robot)
    path = Path(module.__file__).parent / "robots" / f"{robot}.urdf"
    root = ElementTree.parse(path).getroot()
    joints = {joint.get("name"): joint for joint in root.iter("joint")}

    def numbers(element, name):
        return [float(number) for number in (element.get(name) or "0 0 0").split()]

    for joint in description.joints:
        origin, limit = joints[joint.name].find("origin"), joints[joint.name].find("limit")
        np.testing.assert_allclose(numbers(origin, "xyz"), joint.frame.xyz_m)
        np.testing.assert_allclose(numbers(origin, "rpy"), joint.frame.rpy_rad)
        np.testing.assert_allclose(numbers(joints[joint.name].find("axis"), "xyz"), joint.axis)
        assert float(limit.get("lower")) == joint.position_min_rad
        assert float(limit.get("upper")) == joint.position_max_rad
    np.testing.assert_allclose(numbers(joints["tool"].find("origin"), "xyz"), description.tool.xyz_m)


def test_the_so101_reaches_as_far_as_published():
    """Stretched out, the tool is 0.391 m in front of the base and 0.227 m above it."""
    tool = ForwardKinematics(load_description("so101").kinematics()).tool_position(np.zeros(5))
    np.testing.assert_allclose(tool, [0.3914, 0.0, 0.2266], atol=1e-3)
