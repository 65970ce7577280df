"""A policy that was trained for something else is refused before torque, and the message says what for."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from wpg.export import ContractError, Frame, ObservationTerm
from wpg.hardware_bridge.control.checks import check_interface
from wpg.hardware_bridge.description import load_description

DOCS = Path(__file__).parents[2] / "docs" / "contract.md"

PANDA = load_description("panda")


@pytest.fixture(scope="module")
def reach():
    from wpg.sim_envs.tasks.reach import reach_interface

    return reach_interface(PANDA)


def joint(interface, index, **changes):
    joints = list(interface.robot.joints)
    joints[index] = replace(joints[index], **changes)
    return robot(interface, joints=tuple(joints))


def robot(interface, **changes):
    return replace(interface, robot=replace(interface.robot, **changes))


def term(interface, **changes):
    first, *rest = interface.observation
    return replace(interface, observation=(replace(first, **changes), *rest))


def action(interface, **changes):
    return replace(interface, action=replace(interface.action, **changes))


def longer_tool(interface):
    tool = Frame(xyz_m=(0.0, 0.0, 0.3))
    return robot(interface, kinematics=replace(interface.robot.kinematics, tool=tool))


def pick():
    """Moves the gripper, and sees no object."""
    from wpg.sim_envs.tasks.pick_and_place import pick_and_place_interface, pick_and_place_table

    interface = pick_and_place_interface(PANDA, pick_and_place_table(PANDA))
    seen = tuple(term for term in interface.observation if term.source != "external")
    return replace(interface, observation=seen, goal=None)


EXTERNAL = ObservationTerm(name="object_pos", size=3, source="external", unit="m")

MISMATCHES = {
    "robot: the policy was trained for fr3, found panda": lambda i: robot(i, name="fr3"),
    "joints: the policy expects": lambda i: robot(i, joints=i.robot.joints[::-1]),
    "joint panda_joint4: the policy expects zero 0.5 rad and sign 1, found zero 0.0 rad and sign 1": (
        lambda i: joint(i, 3, zero_rad=0.5)
    ),
    "joint panda_joint2: the policy expects zero 0.0 rad and sign -1, found zero 0.0 rad and sign 1": (
        lambda i: joint(i, 1, sign=-1)
    ),
    "kinematics: the policy was trained on another chain of links": longer_tool,
    "the policy was trained in an environment that stands for no robot": lambda i: replace(i, robot=None),
    "observation term 'joint_pos' has no source on the robot": lambda i: term(i, source="environment"),
    "observation terms from outside the robot: object_pos without a source: give --source object_pos=": (
        lambda i: replace(i, observation=(*i.observation, EXTERNAL))
    ),
    "observation term 'joint_pos': expected size 7 from source joint_pos, found 6": lambda i: term(i, size=6),
    "action mode: expected joint_position, joint_position_delta or tool_position_delta, found joint_torque": (
        lambda i: action(i, mode="joint_torque")
    ),
    "action size: expected 7 joints of panda, found 6": (
        lambda i: action(i, size=6, scale=(0.1,) * 6, offset=(0.0,) * 6)
    ),
    "gripper: the policy needs one, found none that moves on this panda": lambda i: pick(),
    "control_dt: the policy's 0.033 s is no multiple of the servo period 0.005 s": (
        lambda i: replace(i, control_dt_s=0.033)
    ),
}


@pytest.mark.parametrize("says", MISMATCHES)
def test_refused_with_its_message(reach, says):
    handless = replace(PANDA, gripper=None)
    check_interface(reach, handless)
    with pytest.raises(ContractError) as refusal:
        check_interface(MISMATCHES[says](reach), handless)
    assert says in str(refusal.value)
    assert says in DOCS.read_text()
