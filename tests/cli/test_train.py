"""``wpg train`` for another arm, and what remembers the arm afterwards."""

import json
import os
import signal
from dataclasses import fields, replace
from importlib import resources

import msgspec
import pytest
from error_line import only_line

from wpg.cli.acting import acting
from wpg.cli.main import main
from wpg.controllers import TrainConfig
from wpg.export import ParityError, load_artifact
from wpg.sim_envs.effects import Effects, effects_toml

REACH = "wpg/PandaReach-v0"


def wpg(*args):
    return main([*map(str, args)])


def failure(capsys, *args, code=1):
    """The one line with which these arguments are refused."""
    assert wpg(*args) == code
    return only_line(capsys.readouterr().err)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps with an SO-101 that answers late; its actuators' file is gone."""
    folder = tmp_path_factory.mktemp("train")
    actuators = folder / "late.toml"
    actuators.write_text('robot = "so101"\naction_delay_s = 0.02\n\n[joints.elbow_flex]\nlag_s = 0.01\n')
    run = folder / "run"
    args = ("--robot", "so101", "--control", "tool", "--actuators", actuators, "--steps", 80, "--out", run)
    assert wpg("train", REACH, *args) == 0
    actuators.unlink()
    return run


def test_every_setting_is_an_option_that_says_what_it_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        wpg("train", "--help")
    shown = capsys.readouterr().out
    other = {
        "env": "ENV",
        "env_kwargs": "--robot",
        "overlap": "--one-process",
        "num_particles": "--particles",
    }
    for setting in fields(TrainConfig):
        assert other.get(setting.name, f"--{setting.name.replace('_', '-')} ") in shown
    assert "Transitions of one update; by default 256 with goals, 128 without." in shown
    assert "None" not in shown


def test_settings_reach_the_run(tmp_path, capsys):
    run = tmp_path / "run"
    args = ("--max-seconds", 0.001, "--batch-size", 32, "--gamma", 0.9, "--eval-period", 0, "--one-process")
    assert wpg("train", REACH, *args, "--select", "mean", "--out", run) == 0
    config = TrainConfig.load(run / "config.yaml")
    found = (config.batch_size, config.gamma, config.eval_period, config.overlap, config.select)
    assert found == (32, 0.9, 0, False, "mean")
    assert failure(capsys, "train", REACH, "--gamma", 3, code=2).startswith("wpg: --gamma must be")
    line = failure(capsys, "train", "--resume", run, "--eval-period", 0, "--particles", 3, code=2)
    assert line.endswith("leave out --particles, --eval-period")


def test_training_that_could_not_learn_or_stop_says_so(tmp_path, capsys):
    args = ("train", "Pendulum-v1", "--out", tmp_path / "run", "--eval-period", 0)
    line = failure(capsys, *args, "--stop-at-success", 0.9, code=2)
    assert line == "wpg: --stop-at-success needs evaluations, and a period of 0 makes none"
    line = failure(capsys, *args, "--steps", 40, "--learning-starts", 40, code=2)
    assert line.startswith("wpg: --learning-starts must be less than steps")
    assert wpg(*args, "--max-seconds", 0.001) == 0
    assert "no update was made: 1 steps are not enough" in capsys.readouterr().out
    assert TrainConfig.load(tmp_path / "run" / "config.yaml").stop_at_success is None


def test_what_was_interrupted_can_go_on(run, capsys, monkeypatch, tmp_path):
    def interrupted(*args, out=None, **settings):
        if out == tmp_path / "begun":
            (out / "checkpoint").mkdir(parents=True)  # its first checkpoint was being written
        os.kill(os.getpid(), signal.SIGTERM)  # as schedulers do

    monkeypatch.setattr("wpg.controllers.train", interrupted)
    monkeypatch.setattr("wpg.controllers.resume", interrupted)
    line = failure(capsys, "train", "--resume", run, code=130)
    assert line == (
        "wpg: interrupted; the last checkpoint is of step 80: go on from there by "
        f"wpg train --resume {run}, or export its policy by wpg export {run}"
    )
    line = failure(capsys, "train", REACH, "--steps", 80, "--out", tmp_path / "begun", code=130)
    assert line.endswith("begun has no checkpoint yet, it may be removed")
    assert failure(capsys, "train", REACH, "--out", tmp_path / "none", code=130) == "wpg: interrupted"


def test_an_interrupted_export_loses_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("wpg.export.writing.runs.export_run", interrupted)
    out = tmp_path / "run"
    args = ("train", REACH, "--steps", 48, "--eval-period", 0, "--one-process", "--out", out)
    assert wpg(*args) == 130
    printed = capsys.readouterr()
    assert printed.out.startswith("training up to step 48 ...")
    assert printed.err.startswith("wpg: interrupted; the last checkpoint is of step 48: go on")
    assert f"or export its policy by wpg export {out}" in printed.err


def test_a_run_remembers_its_arm(run):
    config = TrainConfig.load(run / "config.yaml")
    assert config.env_kwargs["robot"] == "so101"
    assert config.env_kwargs["effects"]["joints"] == {"elbow_flex": {"lag_s": 0.01}}
    interface = load_artifact(run / "policy.onnx").contract.interface
    assert interface.robot.name == "so101"
    assert interface.action.mode == "tool_position_delta"
    assert interface.trained_delay_s == (0.02, 0.02)


def test_it_goes_on_with_the_same_arm(run, capsys):
    assert wpg("train", "--resume", run, "--steps", 160, "--one-process") == 0
    config = TrainConfig.load(run / "config.yaml")
    assert (config.env_kwargs["robot"], config.overlap) == ("so101", False)
    line = failure(capsys, "train", "--resume", run, "--robot", "panda", "--seed", 1, code=2)
    assert line == "wpg: --resume takes all else from the run: leave out --robot, --seed"


def test_run_and_file_act_alike(run, tmp_path):
    """What is measured of a run folder is what its file does, where the arm is the same."""
    effects = TrainConfig.load(run / "config.yaml").env_kwargs["effects"]
    (tmp_path / "late.toml").write_text(effects_toml(msgspec.convert(effects, Effects)))
    assert wpg("export", run) == 0
    measured = []
    for name, args in (
        ("run", (run,)),
        ("file", (run / "policy.onnx", "--actuators", tmp_path / "late.toml")),
    ):
        assert wpg("evaluate", *args, "--episodes", 2, "--json", tmp_path / name) == 0
        measured.append(json.loads((tmp_path / name).read_text()))
    assert measured[0] == measured[1]


def test_a_run_meets_its_arm_on_the_other_engine(run):
    with acting(run, "wpg/PandaReachBullet-v0", "best", seed=0) as (_, env, _):
        drawn = env.reset(seed=0)[1]["effects"]
    assert drawn["action_delay_s"] == 0.02
    assert drawn["lag_s"].tolist() == [0.0, 0.0, 0.01, 0.0, 0.0]


@pytest.mark.parametrize("command", ["play", "evaluate"])
def test_a_policy_meets_no_other_arm(command, run, capsys):
    line = failure(capsys, command, run / "policy.onnx", "--robot", "panda")
    assert "robot: the policy was trained for so101, found panda" in line


def test_the_end_of_a_training_is_told_though_its_export_fails(tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise ParityError("no")

    monkeypatch.setattr("wpg.export.writing.runs.export_run", refuse)
    assert wpg("train", REACH, "--max-seconds", 0.001, "--out", tmp_path / "run") == 1
    assert "stopped by time; nothing was evaluated" in capsys.readouterr().out


def test_a_run_remembers_what_its_actions_move(tmp_path, capsys):
    run = tmp_path / "run"
    assert wpg("train", REACH, "--control", "tool", "--max-seconds", 0.001, "--out", run) == 0
    assert "stopped by time; nothing was evaluated" in capsys.readouterr().out
    assert TrainConfig.load(run / "config.yaml").env_kwargs == {"control": "tool"}
    assert load_artifact(run / "policy.onnx").contract.interface.action.mode == "tool_position_delta"
    assert wpg("evaluate", run / "policy.onnx", "--episodes", 2, "--env", "wpg/PandaReachBullet-v0") == 0


@pytest.fixture(scope="module")
def run_of_my_arm(tmp_path_factory):
    """A run of a few steps with an arm whose description, with a model beside it, is gone."""
    folder = tmp_path_factory.mktemp("arm")
    shipped = resources.files("wpg.hardware_bridge") / "robots"
    (folder / "so101.urdf").write_text((shipped / "so101.urdf").read_text())
    description = folder / "my_arm.toml"
    description.write_text((shipped / "so101.toml").read_text().replace('name = "so101"', 'name = "my_arm"'))
    run = folder / "run"
    args = ("--robot", description, "--steps", 48, "--eval-period", 0, "--out", run)
    assert wpg("train", REACH, *args) == 0
    description.unlink()
    return run


def test_a_run_does_not_need_the_file_of_its_arm(run_of_my_arm, tmp_path):
    run, trained = run_of_my_arm, load_artifact(run_of_my_arm / "policy.onnx").contract.interface
    assert wpg("export", run, "--out", tmp_path / "again.onnx") == 0
    assert load_artifact(tmp_path / "again.onnx").contract.interface == trained
    assert wpg("evaluate", run, "--episodes", 1, "--env", "wpg/PandaReachBullet-v0") == 0
    assert wpg("play", run, "--episodes", 1, "--out", tmp_path / "film.gif") == 0
    args = ("--from", REACH, "--to", "wpg/PandaReachBullet-v0", "--trials", 2)
    assert wpg("transfer", run, *args) == 0
    assert wpg("train", "--resume", run, "--steps", 64) == 0


@pytest.mark.parametrize("command", [("export",), ("evaluate",), ("train", "--resume")])
def test_a_run_vouches_for_no_other_arm(command, run_of_my_arm, capsys):
    config = TrainConfig.load(run_of_my_arm / "config.yaml")
    x, y, z = config.env_kwargs["robot"]["tool"]["xyz_m"]
    longer = config.env_kwargs["robot"] | {"tool": {"xyz_m": [x, y, z + 0.07]}}
    replace(config, env_kwargs={"robot": longer}).save(run_of_my_arm / "config.yaml")
    line = failure(capsys, *command, run_of_my_arm)
    config.save(run_of_my_arm / "config.yaml")
    assert line.startswith(
        f"wpg: interface.robot.kinematics.tool.xyz_m.2: the policy was trained with {z}, its environment now "
        f"declares {z + 0.07}: "
    )


def test_only_our_environments_take_an_arm(capsys, tmp_path):
    line = failure(capsys, "train", "Pendulum-v1", "--robot", "so101", "--out", tmp_path / "run")
    assert line == "wpg: Pendulum-v1 takes no 'robot'"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("delay = ", "Invalid"),
        ('robot = "so101"', "robot: expected panda, found so101"),
        ("[joints.wrist]\nlag_s = 0.1", "found wrist"),
        ("action_delay_s = -1", "action_delay_s: expected 0 to 1"),
    ],
)
def test_bad_actuators_are_one_line(content, found, capsys, tmp_path):
    file = tmp_path / "late.toml"
    file.write_text(content)
    line = failure(capsys, "train", REACH, "--actuators", file, "--out", tmp_path / "run")
    assert line.startswith(f"wpg: {file}: ")
    assert found in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [("evaluate",), ("play", "--out", "film.gif"), ("demonstrate",)])
def test_actuators_of_another_robot_are_named(command, run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.toml").write_text('robot = "xarm6"')
    target = "wpg/PandaPush-v0" if command == ("demonstrate",) else run / "policy.onnx"
    line = failure(capsys, command[0], target, *command[1:], "--actuators", "late.toml")
    assert line.startswith("wpg: late.toml: robot: expected ")
