import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.setpoints import SetpointGenerator


def test_many_steps_at_once_are_the_steps_one_by_one():
    description = load_description("panda")
    one, many = (SetpointGenerator(description, description.servo_dt_s) for _ in range(2))
    rng = np.random.default_rng(0)
    for count in (10, 1, 7, 60, 3):
        target = description.limits("home_rad") + rng.uniform(-0.5, 0.5, 7)
        one.set_target(target)
        many.set_target(target)
        commands = [one.step() for _ in range(count)]
        joint_pos, joint_vel = many.steps(count)
        np.testing.assert_allclose(joint_pos, [command.joint_pos for command in commands], atol=1e-12)
        np.testing.assert_allclose(joint_vel, [command.joint_vel for command in commands], atol=1e-10)


def test_many_steps_refuse_what_one_refuses():
    description = load_description("panda")
    setpoints = SetpointGenerator(description, description.servo_dt_s)
    setpoints.set_target(np.full(7, np.nan))
    with pytest.raises(BridgeError, match="no setpoint towards"):
        setpoints.steps(5)
