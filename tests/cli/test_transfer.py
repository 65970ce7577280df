"""``wpg transfer``: paired trials, on an environment and on an emulated robot whose time is moved by hand."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import msgspec
import numpy as np
import pytest
import torch
from error_line import only_line

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.cli import main as cli
from wpg.cli.options import CommandError
from wpg.cli.transfer.destinations import (
    LinkedRobot,
    LoggedRobot,
    OtherEnvironment,
    RobotOptions,
    robot_of_runs,
)
from wpg.cli.transfer.report import render
from wpg.cli.transfer.study import StudyConfig, study
from wpg.cli.transfer.testing import RehearsedRobot
from wpg.cli.transfer.transfers import FITTED, UNFITTED, summarise
from wpg.cli.transfer.trials import Simulator, logged_trials, pairing
from wpg.cli.transfer.verdict import sentence
from wpg.controllers import TrainConfig
from wpg.controllers.experience.environment import inspect_env, make_env
from wpg.export.reader import load_artifact
from wpg.export.testing import untrained_artifact
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.testing.clocks import SimulatedClock
from wpg.hardware_bridge.testing.memory_log import MemoryLog
from wpg.sim_envs.effects import Effects
from wpg.sim_envs.engines import make_robot
from wpg.sim_envs.tasks.interface import with_target_history
from wpg.sim_envs.tasks.reach import reach_interface

ENV, BULLET = "wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"
LATE = Effects(action_delay_s=0.04, payload_kg=0.5)


@pytest.fixture(scope="module")
def description():
    return load_description("panda")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def path(description, tmp_path_factory) -> Path:
    """Sees more targets than the arms here are late by."""
    interface = with_target_history(reach_interface(description), 2)
    file = tmp_path_factory.mktemp("policy") / "moves.onnx"
    untrained_artifact(file, interface)
    return file


@pytest.fixture(scope="module")
def artifact(path):
    return load_artifact(path)


@pytest.fixture
def simulators(artifact):
    found = {FITTED: Simulator(ENV, artifact, effects=LATE), UNFITTED: Simulator(ENV, artifact)}
    yield found
    for simulator in found.values():
        simulator.close()


@pytest.fixture
def unfitted(simulators):
    return simulators[UNFITTED]


@pytest.fixture(scope="module")
def log(artifact, description, tmp_path_factory):
    """The log of a run of three goals, written as the bridge writes it."""
    file = tmp_path_factory.mktemp("log") / "moves.mcap"
    robot = make_robot(description)
    metadata = {"robot": "panda", "policy_sha256": artifact.digest}
    record = RunLog(file, metadata, {})
    loop = ControlLoop(
        robot,
        SampledPolicy(artifact, 0),
        LoopConfig(goals=3, seed=0),
        clock=SimulatedClock(robot, 0.005),
        recorder=record,
    )
    report = loop.run()
    record.attach("report.json", msgspec.json.encode(report))
    record.close()
    assert (record.dropped, record.error) == (0, "")
    return file


class TestPairs:
    def test_starts_and_goals_do_not_depend_on_effects_or_engine(self, artifact, simulators):
        bullet = Simulator(BULLET, artifact, effects=Effects(action_delay_s=(0.0, 0.1)))
        try:
            for seed in range(3):
                trials = [one.run(SampledPolicy(artifact, 0), seed) for one in (*simulators.values(), bullet)]
                for trial in trials[1:]:
                    assert (trial.goal_m == trials[0].goal_m).all()
                    np.testing.assert_allclose(trial.joint_pos_rad[0], trials[0].joint_pos_rad[0], atol=1e-6)
        finally:
            bullet.close()

    def test_a_trial_begins_where_its_pair_began(self, artifact, unfitted):
        other = RehearsedRobot("mujoco", LATE).run(artifact, unfitted, 2, 0, lambda outcomes: False)
        for trial in other.trials:
            pair = unfitted.run(SampledPolicy(artifact, 0), 0, pairing(trial))
            assert (pair.goal_m == trial.goal_m).all()
            np.testing.assert_allclose(pair.joint_pos_rad[0], trial.joint_pos_rad[0], atol=1e-6)
        assert not np.allclose(other.trials[0].goal_m, other.trials[1].goal_m)


class TestSimulators:
    @pytest.mark.parametrize(("task", "grips"), [("PandaPickAndPlace", True), ("PandaPush", False)])
    def test_the_gripper_is_a_part_of_what_was_told(self, tmp_path, task, grips):
        env_id = f"wpg/{task}-v0"
        with closing(gymnasium.make(env_id)) as env:
            artifact = untrained_artifact(tmp_path / "moves.onnx", env.unwrapped.interface, env_id=env_id)
        with closing(Simulator(env_id, artifact)) as simulator:
            trial = simulator.run(SampledPolicy(artifact, 0), 0)
        assert (trial.gripper_m is not None) == grips
        assert not grips or len(trial.gripper_m) == len(trial.command_pos_rad)

    def test_the_same_simulator_agrees_with_itself(self, artifact, unfitted):
        other, config = OtherEnvironment(ENV, None), StudyConfig(trials=4)
        result = study(artifact, {UNFITTED: unfitted}, other, config).result
        agreement = result.agreement
        assert (agreement.success_difference, agreement.mcnemar_p, agreement.error_wilcoxon_p) == (
            0.0,
            1.0,
            1.0,
        )
        assert agreement.action_w2 == 0.0
        assert max(agreement.joint_replay_rmse_rad) < 1e-6
        assert agreement.parted_s is None
        assert result.trials == 4
        assert not result.stopped_early

    def test_actions_differ_where_states_do(self, artifact, simulators):
        found = study(artifact, simulators, OtherEnvironment(BULLET, None), StudyConfig(trials=3))
        assert found.result.agreement.action_w2 > 0.0  # the fitted one is late, the other engine is not
        assert found.result.unfitted is not None
        assert found.result.unfitted.action_w2 < found.result.agreement.action_w2


class TestRobot:
    def test_fitted_beside_unfitted_and_the_delay_is_named(self, artifact, simulators):
        config = StudyConfig(trials=3, stop_early=False)
        found = study(artifact, simulators, RehearsedRobot("pybullet", LATE), config)
        result = found.result
        assert result.unfitted is not None
        fitted, unfitted = (np.max(one.joint_replay_rmse_rad) for one in (result.agreement, result.unfitted))
        assert fitted < 0.25 * unfitted
        cause = result.unfitted.causes[0]
        assert cause.name == "delay"
        assert cause.size == pytest.approx(0.04, abs=0.005)
        page = render([found], summarise([found], ENV, "the robot", Path("actuators.toml")))
        assert page.count("<svg") == 6
        assert "fitted simulator" in page
        assert "unfitted simulator" in page
        assert "<script" not in page
        assert 'src="http' not in page
        assert "url(http" not in page

        both = summarise([found, found], ENV, "the robot", Path("actuators.toml"))
        assert both.sentence.endswith(
            "moves.onnx, which simulation prefers of 2 policies; none does better there."
        )
        assert (both.pearson_r, both.mmrv) == (None, 0.0)

        missed = [replace(trial, success=False) for trial in found.tried]
        promised = [replace(trial, success=True) for trial in found.simulations[-1].trials]
        assert sentence(result, missed, promised).endswith("where the policy was trained for 0 ms.")
        result.trained_delay_s = (0.0, 0.05)
        assert sentence(result, missed, promised).endswith("which the policy was trained for.")

    def test_a_log_that_could_not_be_kept_is_known_before_anything_moves(self, artifact, tmp_path):
        options = RobotOptions(robot=None, key=None, calibration=None, safety=None, logs=tmp_path / "logs")
        robot = LinkedRobot("udp://127.0.0.1:1", options)
        with pytest.raises(CommandError, match="found moves twice"):
            robot.prepare([artifact, artifact])
        assert not list(tmp_path.iterdir())
        robot.prepare([artifact])
        (tmp_path / "logs" / "moves.mcap").write_text("precious")
        with pytest.raises(CommandError, match=r"moves\.mcap exists already"):
            robot.prepare([artifact])

    def test_a_log_that_was_cut_short_is_no_evidence(self, artifact, unfitted, monkeypatch):
        report = SimpleNamespace(completed=True, end_reason="goals_done", log_error="a.mcap: File too large")
        monkeypatch.setattr("wpg.cli.transfer.destinations.run_policy", lambda *_, **options: report)
        options = RobotOptions(robot=None, key=None, calibration=None, safety=None, logs=None)
        with pytest.raises(CommandError, match=r"the run log is not whole: a\.mcap: File too large"):
            LinkedRobot("udp://127.0.0.1:1", options).run(artifact, unfitted, 1, 0, lambda reached: False)

    def test_trials_end_when_the_answer_is_clear(self, artifact, unfitted):
        config = StudyConfig(trials=15, at_least=0.9)
        result = study(artifact, {UNFITTED: unfitted}, RehearsedRobot("mujoco", LATE), config).result
        assert result.verdict == "fails"
        assert result.stopped_early
        assert result.trials == result.decided_after < 10 < result.plan.fixed_trials
        low, high = result.to.success_ci95
        assert (low, result.to.success) == (0.0, 0.0)
        assert high > 0.3  # no more than a handful of trials can tell
        assert "does not work" in result.sentence


class TestLogs:
    def test_a_log_stands_for_the_robot(self, artifact, unfitted, log):
        robot = LoggedRobot(log)
        robot.prepare([artifact])
        assert robot.extent(artifact, 100, 89) == "Goals taken from the log: 3"
        tried = robot.run(artifact, unfitted, 100, 0, lambda outcomes: False)
        assert len(tried.trials) == 3
        for trial in tried.trials:
            assert trial.obs.shape == (50, artifact.contract.interface.obs_dim)
            assert trial.joint_pos_rad.shape == (51, 7)
            assert trial.steps.tolist() == list(range(0, 501, 10))
            assert len(trial.command_pos_rad) == 500

    def test_commands_of_a_plain_arm_lead_the_plain_arm_the_same_way(self, artifact, unfitted, log):
        robot = LoggedRobot(log)
        robot.prepare([artifact])
        tried = robot.run(artifact, unfitted, 100, 0, lambda outcomes: False)
        for trial in tried.trials:
            replay = unfitted.replay(trial, 0, pairing(trial))
            # The replay begins at rest, the run did not quite.
            assert np.abs(replay[trial.steps] - trial.joint_pos_rad).max() < 0.02

    @pytest.mark.parametrize("channel", ["state", "command", "decision"])
    def test_gaps(self, artifact, unfitted, description, channel):
        robot, record = make_robot(description), MemoryLog()
        clock = SimulatedClock(robot, 0.005)
        config = LoopConfig(goals=1)
        report = ControlLoop(robot, SampledPolicy(artifact), config, clock=clock, recorder=record).run()
        recording = record.recording()
        series = getattr(recording, channel)
        start = report.goal_results[0].start_s
        kept = (series.time_s < start + 0.49) | (series.time_s > start + 0.91)
        cut = replace(
            series,
            time_s=series.time_s[kept],
            columns={name: column[kept] for name, column in series.columns.items()},
        )
        said = {"decision": "holds 41 of 50 decisions"}.get(channel, f"no {channel}s for 0.4")
        damaged = replace(recording, **{channel: cut})
        with pytest.raises(LogError, match=rf"cut\.mcap: {said}"):
            logged_trials(damaged, report.goal_results, artifact, unfitted, "cut.mcap")

    def test_cut_short_before_its_report(self, artifact, unfitted, tmp_path):
        record = RunLog(
            tmp_path / "cut.mcap",
            {"robot": "panda", "policy_sha256": artifact.digest},
            {"contract.json": b"{}"},
        )
        record.close()
        robot = LoggedRobot(tmp_path / "cut.mcap")
        robot.prepare([artifact])
        with pytest.raises(LogError, match="its report is missing"):
            robot.run(artifact, unfitted, 1, 0, lambda outcomes: False)

    @pytest.mark.parametrize(
        ("metadata", "said"),
        [({"policy_sha256": "00" * 32}, "that of another policy"), ({}, "a motion without a policy")],
    )
    def test_run_of_another_policy_or_of_none(self, metadata, said, artifact, tmp_path):
        record = RunLog(tmp_path / "other.mcap", {"robot": "panda", **metadata}, {})
        record.close()
        with pytest.raises(LogError, match=f"found {said}"):
            LoggedRobot(tmp_path / "other.mcap").prepare([artifact])


def test_the_robot_of_a_run_that_was_shortened(tmp_path):
    """Such settings a new run may not have, a stored one may."""
    with closing(make_env(ENV)) as env:
        config = TrainConfig(env=ENV, env_kwargs={"robot": "xarm6"}).resolve(inspect_env(env))
    folders = [tmp_path / name for name in ("file.onnx", "run")]
    folders[1].mkdir()
    replace(config, steps=config.learning_starts).save(folders[1] / "config.yaml")
    assert robot_of_runs(folders) == "xarm6"


class TestCommand:
    def run(self, *args: str) -> int:
        return cli.main(("transfer", *args))

    def test_writes_what_scripts_rely_on(self, path, tmp_path, capsys):
        out, page = tmp_path / "deep" / "result.json", tmp_path / "report.html"
        args = ("--from", ENV, "--to", BULLET, "--trials", "3", "--json", str(out), "--html", str(page))
        assert self.run(str(path), *args) == 0
        result = json.loads(out.read_text())
        assert {
            "from",
            "to",
            "success_from",
            "success_from_ci95",
            "success_to",
            "success_to_ci95",
            "pearson_r",
            "mmrv",
            "joint_replay_rmse_rad",
            "action_w2",
            "trials",
            "verdict",
            "mcnemar_p",
        } <= result.keys()
        assert len(result["joint_replay_rmse_rad"]) == 7
        assert (result["trials"], result["pearson_r"]) == (3, None)
        assert page.read_text().startswith("<!doctype html>")
        said = " ".join(capsys.readouterr().out.split())
        assert result["sentence"][:20] in said
        assert f"in the simulator ({ENV})" in said
        assert "It is tried 3 times there" in said
        assert f"report: {page}" in said
        for words in ("unfitted", "fixed size", "are repeated"):
            assert words not in said

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"--to": "udp://127.0.0.1:9"}, "127.0.0.1:9"),
            ({"--to": "udp://127.0.0.1:9", "--calibration": "arm.json"}, "takes no calibration"),
            ({"--to": "carrier-pigeon://roof"}, "carrier-pigeon"),
            ({"--to": "wpg/PandaRech-v0"}, "wpg/PandaReach-v0"),
            ({"--to": "none.mcap"}, "none.mcap"),
            ({"--from": "wpg/PandaPush-v0"}, "observation"),
            ({"--robot": "so101"}, "so101"),
            ({"--actuators": "none.toml"}, "none.toml"),
            ({"--trials": "1"}, "--trials"),
            ({"--margin": "0.7"}, "--margin"),
            ({"--at-least": "90"}, "such as 0.9"),
            ({"--key": "key"}, "are for a robot's link"),
            ({"--error": "1e-300"}, "--margin, --error: expected rates that 10,000 trials tell apart"),
        ],
    )
    def test_one_line_for_each_mistake_and_nothing_written(self, changes, said, path, tmp_path, capsys):
        out = tmp_path / "result.json"
        options = {"--from": ENV, "--to": BULLET, "--trials": "2", "--json": str(out)} | changes
        refused = {"--trials", "--margin", "--at-least", "--key", "--calibration"}
        code = 2 if changes.keys() & refused or "pigeon" in said else 1
        assert self.run(str(path), *(word for pair in options.items() for word in pair)) == code
        printed = capsys.readouterr()
        assert said in only_line(printed.err)
        tried = said == "127.0.0.1:9"
        assert ("reaches" in printed.out) == tried  # all else is known before anything is tried
        assert not list(tmp_path.iterdir())

    def test_files_that_are_no_policies(self, path, tmp_path, capsys):
        places = ("--from", ENV, "--to", BULLET)
        assert self.run(str(tmp_path / "none.onnx"), *places) == 1
        assert "none.onnx" in only_line(capsys.readouterr().err)
        assert self.run(str(path), str(path), *places) == 1
        assert "twice" in only_line(capsys.readouterr().err)
        interface = reach_interface(load_description("so101"))
        other = tmp_path / "other.onnx"
        untrained_artifact(other, interface)
        assert self.run(str(path), str(other), *places) == 1
        assert "policies for one robot, found some for panda, so101" in only_line(capsys.readouterr().err)

    @pytest.mark.parametrize(
        ("task", "reason"),
        [("PandaPush", "has goals for object_pos"), ("PandaInsert", "needs its goals given")],
    )
    def test_goals_that_are_not_drawn_for_the_tool(self, task, reason, tmp_path, capsys):
        env_id = f"wpg/{task}-v0"
        with closing(gymnasium.make(env_id)) as env:
            untrained_artifact(tmp_path / "moves.onnx", env.unwrapped.interface, env_id=env_id)
        for place in ("udp://127.0.0.1:9", str(tmp_path / "none.mcap")):
            assert self.run(str(tmp_path / "moves.onnx"), "--from", env_id, "--to", place) == 1
            printed = capsys.readouterr()
            assert f"goals drawn for the tool; this one {reason}" in only_line(printed.err)
            assert not printed.out  # nothing has been tried

    def test_log_of_another_robot(self, path, artifact, tmp_path, capsys):
        file = tmp_path / "other.mcap"
        record = RunLog(file, {"robot": "so101", "policy_sha256": artifact.digest}, {})
        record.close()
        assert self.run(str(path), "--from", ENV, "--to", str(file), "--trials", "2") == 1
        assert "expected a run of panda, found one of so101" in only_line(capsys.readouterr().err)
