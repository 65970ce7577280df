"""An exported artifact in the loop: what ``wpg run`` does, in one call."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.export.options import SamplerOptions
from wpg.export.testing import untrained_artifact
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import BridgeError, LogError
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.realtime import RealtimeConfig
from wpg.hardware_bridge.replay import replay
from wpg.hardware_bridge.run_log.reader import read_log
from wpg.hardware_bridge.session import open_robot, run_policy

PATIENT = SafetyConfig(stale_s=1.0, overrun_s=1.0, holds_max=100)
ORDINARY = RealtimeConfig(priority=None)


@pytest.fixture(scope="module")
def make_artifact(tmp_path_factory, make_interface):
    """An untrained policy for the Panda: what it does is of no account, how it is run is."""
    return lambda **settings: untrained_artifact(
        tmp_path_factory.mktemp("artifact") / "policy.onnx", make_interface(horizon_steps=6), **settings
    )


@pytest.fixture(scope="module")
def artifact(make_artifact):
    return make_artifact()


def test_runs_logs_and_replays_bit_for_bit(artifact, emulator, description, tmp_path):
    path = tmp_path / "run.mcap"
    report = run_policy(
        artifact,
        open_robot(description, emulator.url),
        LoopConfig(goals=2, seed=9, settle_s=0.02, safety=PATIENT),
        noise_seed=7,
        log=path,
        realtime_config=ORDINARY,
        should_stop=lambda: "",
    )
    assert (report.goals, report.end_reason, report.final_phase) == (2, "goals_done", "parked")
    assert report.limit_violations == emulator.witness.commands_outside_limits == 0
    assert (report.log_dropped, report.log_error) == (0, "")

    run = read_log(path)
    assert run.metadata["noise_seed"] == "7"
    assert run.metadata["policy_sha256"] == artifact.digest
    assert set(run.attachments) == {"contract.json", "description.json", "policy.onnx", "report.json"}
    assert msgspec.json.decode(run.attachments["report.json"])["end_reason"] == "goals_done"
    assert len(run.decision) == 12
    again = SampledPolicy(artifact, seed=7)
    for obs, action in zip(run.decision["obs"], run.decision["action"], strict=True):
        np.testing.assert_array_equal(again.act(obs.astype(np.float32)).action, action.astype(np.float32))


def test_every_goal_begins_without_the_action_of_the_last(make_artifact, emulator, description, tmp_path):
    artifact = make_artifact(options=SamplerOptions(choice="best_with_hysteresis", switch_cost=1e3))
    path = tmp_path / "run.mcap"
    run_policy(
        artifact,
        open_robot(description, emulator.url),
        LoopConfig(goals=3, seed=9, settle_s=0.02, safety=PATIENT),
        log=path,
        realtime_config=ORDINARY,
    )
    run = read_log(path)
    assert np.flatnonzero(run.decision["fresh"]).tolist() == [0, 6, 12]
    assert replay(run, artifact).first_difference is None
    # It would have stayed with what it did, had it not forgotten.
    run.decision.columns["fresh"][:] = False
    assert replay(run, artifact).first_difference.decision == 6


def asked_once_armed():
    answers = itertools.chain([""], itertools.repeat("asked"))
    return lambda: next(answers)


def test_stop_request_is_honoured(artifact, emulator, description):
    report = run_policy(
        artifact,
        open_robot(description, emulator.url),
        LoopConfig(duration_s=60.0),
        realtime_config=ORDINARY,
        should_stop=asked_once_armed(),
    )
    assert (report.end_reason, report.message) == ("stopped", "asked")


class LooseRobot(NativeRobot):
    """One that has something to say."""

    notices = ("joint1: a screw is loose",)


def test_what_a_robot_notices_is_a_warning(artifact, emulator, description):
    report = run_policy(
        artifact,
        LooseRobot(description, emulator.url),
        LoopConfig(duration_s=60.0),
        realtime_config=ORDINARY,
        should_stop=asked_once_armed(),
    )
    assert report.warnings[-1] == "joint1: a screw is loose"


def test_artifact_of_another_robot(artifact, description):
    other = msgspec.structs.replace(description, name="ur5e")
    with pytest.raises(ContractError, match="trained for panda, found ur5e"):
        run_policy(artifact, open_robot(other, "udp://127.0.0.1:1"), LoopConfig(goals=1))


def test_log_that_exists_is_kept_and_nothing_moves(artifact, emulator, description, tmp_path):
    path = tmp_path / "run.mcap"
    path.write_text("precious")
    with pytest.raises(LogError, match="File exists"):
        run_policy(artifact, open_robot(description, emulator.url), LoopConfig(goals=1), log=path)
    assert path.read_text() == "precious"
    assert emulator.witness.arms == 0


def test_seed_decides_the_noise(artifact):
    obs = np.linspace(-1, 1, artifact.contract.interface.obs_dim, dtype=np.float32)
    actions = [[SampledPolicy(artifact, seed).act(obs).action.copy()] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    policy = SampledPolicy(artifact, 1)
    first = policy.act(obs).action.copy()
    assert not np.array_equal(first, policy.act(obs).action)
    assert policy.act(obs).spread > 0


@pytest.mark.parametrize("kind", [Path, str])
def test_a_run_that_is_refused_leaves_no_log(artifact, description, tmp_path, kind):
    log = kind(tmp_path / "run.mcap")
    for _ in range(2):  # the name is free for another try
        with pytest.raises(BridgeError, match="nothing listens"):
            run_policy(artifact, open_robot(description, "udp://127.0.0.1:9"), LoopConfig(goals=1), log=log)
    assert not Path(log).exists()


def test_an_interrupt_before_it_is_armed_leaves_none_either(artifact, description, tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ControlLoop, "run", interrupted)
    log = tmp_path / "run.mcap"
    with pytest.raises(KeyboardInterrupt):
        run_policy(artifact, open_robot(description, "udp://127.0.0.1:9"), LoopConfig(goals=1), log=log)
    assert not log.exists()


def test_a_run_that_fails_once_it_is_armed_keeps_its_log(
    artifact, emulator, description, tmp_path, monkeypatch
):
    def act(self, obs):
        raise ContractError("in motion")

    monkeypatch.setattr(SampledPolicy, "act", act)
    log = tmp_path / "run.mcap"
    with pytest.raises(ContractError, match="in motion"):
        run_policy(
            artifact,
            open_robot(description, emulator.url),
            LoopConfig(goals=1, safety=PATIENT),
            log=log,
            realtime_config=ORDINARY,
            should_stop=lambda: "",
        )
    names = list(read_log(log).event["name"])
    assert names == ["connected", "checked", "armed", "running", "stopping", "parked"]
