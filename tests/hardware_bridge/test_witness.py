import numpy as np

from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.witness import Witness


def test_counts():
    witness = Witness(robot="panda")
    witness.saw_command(Refusal.NONE, ())
    witness.saw_command(Refusal.NONE, ("acceleration",))
    witness.saw_command(Refusal.POSITION_LIMIT, ("position", "velocity"))
    witness.saw_command(Refusal.NOT_ARMED, ())
    assert witness.commands_ok == 2
    assert witness.commands_refused == {"position_limit": 1, "not_armed": 1}
    assert witness.commands_outside_limits == 2
    assert witness.commands_outside_limits_by == {"acceleration": 1, "position": 1, "velocity": 1}


def test_the_longest_silence_before_a_hold():
    witness = Witness(robot="panda")
    for silence_s in (0.0501, 0.0523, 0.05):
        witness.saw_hold(silence_s)
    assert (witness.holds, witness.hold_delay_ms_max) == (3, 52.3)


def test_extremes():
    witness = Witness(robot="panda")
    for position, speed in (([0.0, 1.0], [0.5, -2.0]), ([-1.0, 2.0], [0.1, 0.1]), ([0.5, 1.5], [0.0, 0.0])):
        witness.saw_joints(np.array(position), np.array(speed))
    witness.saw_joints(np.array([np.nan, 1.8]), np.array([np.nan, 0.0]))
    assert witness.joint_pos_min == [-1.0, 1.0]
    assert witness.joint_pos_max == [0.5, 2.0]
    assert witness.joint_vel_max == [0.5, 2.0]
