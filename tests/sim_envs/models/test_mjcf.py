"""Arms in MuJoCo's format, from files and from MuJoCo Menagerie, on both engines."""

import sys
from types import ModuleType, SimpleNamespace

import gymnasium
import mujoco
import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.engines import make_robot

LINK = '<inertial mass="{mass}" pos="0.02 0 0.1" diaginertia="0.02 0.02 0.01"/>'
ARM = f"""<mujoco model="arm">
  <compiler angle="radian"/>
  <asset><mesh name="wedge" vertex="0 0 0 0.05 0 0 0 0.05 0 0 0 0.3"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="base" pos="0 0 0.1" euler="0 0 0.4">
      <geom type="box" size="0.05 0.05 0.05"/>
      <body name="turret" pos="0 0 0.2">{LINK.format(mass=3)}
        <joint name="pan" axis="0 0 1" range="-2.5 2.5" actuatorfrcrange="-80 80"/>
        <geom type="mesh" mesh="wedge" contype="0" conaffinity="0" rgba="0.8 0.2 0.1 1"/>
        <geom type="capsule" size="0.04 0.1"/>
        <body name="upper" pos="0 0.05 0.1" euler="0.3 0 0">{LINK.format(mass=2)}
          <joint name="lift" pos="0 0 0.02" axis="0 1 0" range="-1.5 1.8"/>
          <geom type="cylinder" size="0.03 0.12" pos="0 0 0.12"/>
          <body name="fore" pos="0 0 0.35">{LINK.format(mass=1)}
            <joint name="bend" axis="0 1 0" range="-0.2 2.4"/>
            <geom type="sphere" size="0.04" pos="0 0 0.1"/>
            <body name="hand" pos="0 0 0.3" euler="0 0.5 0">{LINK.format(mass=0.3)}
              <site name="pinch" pos="0 0 0.08"/>
              <body name="finger" pos="0 0.02 0.05">{LINK.format(mass=0.05)}
                <joint name="slide" type="slide" axis="0 1 0" range="0 0.04"/>
                <geom type="box" size="0.01 0.005 0.02"/>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="pan" kp="100"/>
    <position joint="lift" kp="100" forcerange="-60 60"/>
    <position joint="bend" kp="100" forcerange="-40 40"/>
  </actuator>
  <keyframe><key name="home" qpos="0.2 0.4 1.0 0.03"/></keyframe>
</mujoco>"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(ARM)
    return path


def test_a_description_is_made_of_the_file(path):
    description = load_description(path)
    assert description.name == "arm"
    assert description.joint_names == ("pan", "lift", "bend")
    assert description.limits("torque_max_nm").tolist() == [80.0, 60.0, 40.0]
    assert description.limits("home_rad").tolist() == [0.2, 0.4, 1.0]
    assert description.limits("position_min_rad").tolist() == [-2.5, -1.5, -0.2]
    assert description.simulation.fixed_joints_rad == {"slide": 0.03}
    assert description.simulation.tool_link == "pinch"


def test_the_tool_is_where_mujoco_has_it(path, engine):
    """Joints off the body's origin, rotated bodies and sites give one pose in kinematics and both engines."""
    description = load_description(path)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    kinematics = ForwardKinematics(description.kinematics())
    robot = make_robot(description, engine)
    for joint_pos in np.random.default_rng(0).uniform(-0.2, 1.8, (5, 3)):
        data.qpos[:3], data.qpos[3] = joint_pos, 0.03
        mujoco.mj_kinematics(model, data)
        expected = data.site("pinch").xpos
        np.testing.assert_allclose(kinematics.tool_position(joint_pos), expected, atol=1e-9)
        robot.reset(joint_pos)
        np.testing.assert_allclose(robot.tool_position(), expected, atol=1e-6)
    robot.close()


def test_gravity_is_what_mujoco_has(path):
    """The torques that hold the arm follow from the masses and their positions."""
    description = load_description(path)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    data.qpos[:] = *description.limits("home_rad"), 0.03
    mujoco.mj_forward(model, data)
    robot = make_robot(description, "mujoco")
    robot.reset(description.limits("home_rad"))
    robot.advance(1.0)
    np.testing.assert_allclose(robot.read().joint_torque, data.qfrc_bias[:3], rtol=1e-5, atol=1e-6)
    robot.close()


def test_it_reaches(path, engine):
    env = gymnasium.make(f"wpg/PandaReach{'Bullet' if engine == 'pybullet' else ''}-v0", robot=str(path))
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        obs, *_ = env.step(env.action_space.sample())
    assert np.isfinite(obs["observation"]).all()
    env.close()


TOML = """
name = "mine"
title = "Mine"
source = "made up"
protocol = "native"
servo_rate_hz = 200.0
watchdog_s = 0.05
tool = { xyz_m = [0.0, 0.0, 0.08] }
[simulation]
model = "arm.xml"
base_link = "base"
tool_link = "pinch"
fixed_joints_rad = { pan = 0.1, lift = 0.2, slide = 0.0 }
stiffness_nm_rad = [500.0]
damping_nm_s_rad = [20.0]
step_s = 0.005
[[joints]]
name = "bend"
frame = { xyz_m = [0.0, 0.0, 0.3] }
axis = [0.0, 1.0, 0.0]
position_min_rad = -0.2
position_max_rad = 2.4
velocity_max_rad_s = 1.0
acceleration_max_rad_s2 = 5.0
jerk_max_rad_s3 = 500.0
torque_max_nm = 40.0
home_rad = 1.0
"""


def test_a_description_may_name_an_mjcf_file(path, engine):
    """The model's path is relative to the description, and some joints are fixed."""
    (path.parent / "mine.toml").write_text(TOML)
    robot = make_robot(load_description(path.parent / "mine.toml"), engine)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    data.qpos[:] = 0.1, 0.2, 1.0, 0.0
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(robot.tool_position(), data.site("pinch").xpos, atol=1e-6)
    robot.close()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<mujoco", "<mujoko", r"arm\.xml: no readable MJCF"),
        (' actuatorfrcrange="-80 80"', "", r"joint 'pan': expected a torque limit .* found none: describe"),
        ('axis="0 1 0" range="-0.2 2.4"', 'range="-0.2 2.4" ref="0.1"', r"joint 'bend': expected ref 0"),
        ('type="sphere" size="0.04"', 'type="ellipsoid" size="0.04 0.03 0.02"', r"expected no ellipsoid on"),
        ('<joint name="bend"', '<joint/><joint name="bend"', r"one hinge or slide at most, found 2 joints"),
    ],
)
def test_what_cannot_be_used_is_named(path, old, new, message):
    text = path.read_text().replace(old, new)
    path.write_text(text[: text.index("<keyframe>")] + "</mujoco>" if "<joint/>" in new else text)
    with pytest.raises(DescriptionError, match=message):
        load_description(path)


class MenagerieError(Exception):
    """The exception of the package."""


def fake_menagerie(monkeypatch, path):
    menagerie = ModuleType("mujoco_menagerie")

    def fetch(entry):
        if entry == "arm":
            return path
        raise MenagerieError("https://example.invalid/some_arm.zip: no route to host")

    def get(name):
        if name != "some_arm":
            raise MenagerieError(f"unknown robot {name!r}")
        return SimpleNamespace(default_model="arm", xml=fetch)

    menagerie.get, menagerie.MenagerieError = get, MenagerieError
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", menagerie)


def test_menagerie(path, monkeypatch):
    fake_menagerie(monkeypatch, path)
    assert load_description("menagerie:some_arm").joint_names == ("pan", "lift", "bend")
    assert load_description("menagerie:some_arm/arm").name == "some_arm"
    with pytest.raises(DescriptionError, match="menagerie:no_arm: unknown robot 'no_arm'"):
        load_description("menagerie:no_arm")
    with pytest.raises(DescriptionError, match=r"menagerie:some_arm/hand: https://.*: no route to host"):
        load_description("menagerie:some_arm/hand")


def test_menagerie_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", None)
    with pytest.raises(DescriptionError, match="menagerie:some_arm: needs pip install mujoco-menagerie"):
        load_description("menagerie:some_arm")
