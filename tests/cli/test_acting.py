"""An exported policy in an environment: on which robot it acts, and what is said if that robot is missing."""

import msgspec
import pytest

from wpg.cli.acting import acting
from wpg.cli.options import CommandError
from wpg.cli.transfer.trials import Simulator
from wpg.export.testing import untrained_artifact
from wpg.hardware_bridge.description import load_description
from wpg.sim_envs.tasks.reach import reach_interface

REACH = "wpg/PandaReach-v0"
BY_MODULE = f"wpg.sim_envs:{REACH}"


@pytest.mark.parametrize(
    ("own_id", "env_id"), [(REACH, None), (REACH, BY_MODULE), (BY_MODULE, None), (BY_MODULE, REACH)]
)
def test_a_policy_acts_on_its_own_robot_whatever_the_id_begins_with(own_id, env_id, tmp_path):
    interface = reach_interface(load_description("iiwa14"))
    untrained_artifact(tmp_path / "moves.onnx", interface, env_id=own_id)
    with acting(tmp_path / "moves.onnx", env_id, None, seed=0) as (_, env, _):
        assert env.unwrapped.robot.description.name == "iiwa14"


def test_a_robot_that_is_not_shipped_must_be_given(tmp_path):
    brought = msgspec.structs.replace(load_description("panda"), name="my_arm")
    artifact = untrained_artifact(tmp_path / "moves.onnx", reach_interface(brought))
    said = r"moves\.onnx was trained for my_arm, which is not shipped with wpg: give .* --robot"
    with pytest.raises(CommandError, match=said), acting(artifact.path, None, None, seed=0):
        pass
    with pytest.raises(CommandError, match=said):
        Simulator(REACH, artifact)
    Simulator(REACH, artifact, robot=brought).close()
