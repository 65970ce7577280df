import math

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.engines import ENGINES, make_robot
from wpg.sim_envs.models.fixed_links import combine, principal
from wpg.sim_envs.models.urdf import load_arm, resolve_path

TWO_LINKS = """<robot name="two">
  <link name="base"/>
  <link name="bent"><inertial><mass value="1"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="arm"><inertial><mass value="1"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tip"><inertial><mass value="1"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="bend" type="revolute"><parent link="base"/><child link="bent"/>
    <origin xyz="0 0 1" rpy="0.3 -0.4 0.5"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="9" velocity="9"/></joint>
  <joint name="slide" type="prismatic"><parent link="bent"/><child link="arm"/>
    <origin xyz="0.2 0 0"/><axis xyz="1 0 0"/><limit lower="0" upper="1" effort="9" velocity="9"/></joint>
  <joint name="turn" type="revolute"><parent link="arm"/><child link="tip"/>
    <axis xyz="0 0 1"/><limit lower="-2" upper="2" effort="9" velocity="9"/></joint>
</robot>"""


def with_simulation(description, **changes):
    return msgspec.structs.replace(
        description, simulation=msgspec.structs.replace(description.simulation, **changes)
    )


@pytest.fixture
def one_joint(description, tmp_path):
    """The first joint of the Panda's description, renamed for the file above."""
    path = tmp_path / "two.urdf"
    path.write_text(TWO_LINKS)
    joint = msgspec.structs.replace(description.joints[0], name="turn")
    simulation = msgspec.structs.replace(
        description.simulation,
        model=str(path),
        base_link="base",
        tool_link="tip",
        fixed_joints_rad={"bend": 0.7, "slide": 0.3},
        stiffness_nm_rad=(100.0,),
        damping_nm_s_rad=(10.0,),
    )
    return msgspec.structs.replace(description, joints=(joint,), simulation=simulation)


def test_welded_joints_stand_where_they_are_told(one_joint):
    arm = load_arm(one_joint)
    assert arm.tool_link == "tip"
    assert 'name="bend"' not in arm.urdf
    rotations = [
        np.array([[1, 0, 0], [0, math.cos(0.3), -math.sin(0.3)], [0, math.sin(0.3), math.cos(0.3)]]),
        np.array([[math.cos(-0.4), 0, math.sin(-0.4)], [0, 1, 0], [-math.sin(-0.4), 0, math.cos(-0.4)]]),
        np.array([[math.cos(0.5), -math.sin(0.5), 0], [math.sin(0.5), math.cos(0.5), 0], [0, 0, 1]]),
        np.array([[math.cos(0.7), 0, math.sin(0.7)], [0, 1, 0], [-math.sin(0.7), 0, math.cos(0.7)]]),
    ]
    roll, pitch, yaw, bend = rotations
    expected = np.array([0.0, 0.0, 1.0]) + yaw @ pitch @ roll @ bend @ np.array([0.5, 0.0, 0.0])
    for engine in ENGINES:
        robot = make_robot(one_joint, engine)
        np.testing.assert_allclose(robot.tool_position(), expected, atol=1e-6)
        robot.close()


def test_tool_offset_crosses_fixed_joints(description):
    arm = load_arm(description)
    assert (arm.base_link, arm.tool_link) == ("panda_link0", "panda_link7")
    np.testing.assert_allclose(arm.tool_offset_m, [0.0, 0.0, 0.212], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nowhere.urdf"}, r"nowhere\.urdf: no readable URDF"),
        ({"model": "no_such_data:arm.urdf"}, r"package no_such_data is not installed: pip install no_such"),
        ({"fixed_joints_rad": {}}, r"found panda_joint1, .*panda_finger_joint2; name the others"),
        ({"fixed_joints_rad": {"thumb": 0.0}}, r"no moving joint 'thumb'; it has panda_joint1"),
        ({"tool_link": "nose"}, r"has no link 'nose'"),
    ],
)
def test_bad_models_are_named(description, changes, message):
    with pytest.raises(DescriptionError, match=message):
        load_arm(with_simulation(description, **changes))


def test_text_that_is_no_xml(description, tmp_path):
    path = tmp_path / "arm.urdf"
    path.write_text("<robot>")
    with pytest.raises(DescriptionError, match="no readable URDF"):
        load_arm(with_simulation(description, model=str(path)))


def test_missing_mesh(description, tmp_path):
    source = resolve_path(description.simulation.model)
    path = tmp_path / "arm.urdf"
    path.write_text(source.read_text())
    with pytest.raises(DescriptionError, match=r"mesh package://meshes/\S+link0.obj found neither"):
        load_arm(with_simulation(description, model=str(path)))


def test_fixed_bodies_combine_as_one():
    """Two point masses on a rod, with mass, centre and m r² computed by hand."""
    bodies = [
        (2.0, np.array([0.0, 0.0, 1.0]), np.zeros((3, 3))),
        (1.0, np.array([0.0, 0.0, -2.0]), np.eye(3)),
    ]
    mass, center, inertia = combine(bodies)
    assert mass == 3.0
    np.testing.assert_allclose(center, 0.0, atol=1e-12)
    np.testing.assert_allclose(inertia, np.diag([7.0, 7.0, 1.0]), atol=1e-12)


def test_inertia_that_no_body_has_becomes_round():
    moments, axes = principal(np.diag([1.0, 2.0, 6.0]))
    np.testing.assert_allclose(moments, 3.0)
    moments, axes = principal(np.diag([3.0, 2.0, 4.0]))
    np.testing.assert_allclose(axes @ np.diag(moments) @ axes.T, np.diag([3.0, 2.0, 4.0]), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_robot_without_a_model(description):
    with pytest.raises(DescriptionError, match=r"no \[simulation\] table"):
        load_arm(msgspec.structs.replace(description, simulation=None))
