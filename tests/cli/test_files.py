"""Which files and folders commands read and write: policies by either name, and what is there already."""

import json
import shutil

import numpy as np
import pytest
import torch
from error_line import only_line
from gymnasium.spaces import Box
from msgspec.structs import replace

from wpg.cli import main as cli
from wpg.cli.acting import artifact_act
from wpg.cli.options import CommandError, prepare_outputs
from wpg.cli.policies import load_policy
from wpg.controllers import CheckpointFormatError, TrainConfig, UnknownEnvError, resume, train
from wpg.controllers.experience.environment import make_env
from wpg.export import CorruptArtifactError, ExportOptions, SamplerOptions, export_run, load_artifact


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run that has hardly begun."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "reach"
    config = TrainConfig(env="wpg/PandaReach-v0", steps=64, hidden=16, eval_period=0)
    train(config, out=folder)
    export_run(folder, folder / "policy.onnx")
    return folder


def test_a_file_says_what_its_policy_was_trained_with(run_folder, tmp_path, monkeypatch):
    """Not what is installed where it is exported."""
    folder = shutil.copytree(run_folder, tmp_path / "run")
    with monkeypatch.context() as then:
        then.setattr("wpg.controllers.training.trainer.installed_versions", lambda: {"wpg": "0.0.9"})
        then.setattr("wpg.controllers.training.trainer.checkout_commit", lambda: "c0ffee")
        resume(folder, steps=72)
    provenance = load_artifact(export_run(folder, folder / "policy.onnx")).contract.provenance
    assert (provenance.packages, provenance.git_commit) == ({"wpg": "0.0.9"}, "c0ffee")
    assert (provenance.env_id, provenance.seed, provenance.env_steps) == ("wpg/PandaReach-v0", 0, 72)


def test_paths_may_be_strings(run_folder, tmp_path):
    exported = export_run(str(run_folder), str(tmp_path / "policy.onnx"))
    assert exported == tmp_path / "policy.onnx"
    assert load_artifact(str(exported)).digest == load_artifact(run_folder / "policy.onnx").digest


def test_a_run_with_a_factory_is_exported_with_it(tmp_path, capsys):
    def tool_reach(robot="panda"):
        return make_env("wpg/PandaReach-v0", control="tool", robot=robot)

    folder, file = tmp_path / "run", tmp_path / "policy.onnx"
    config = TrainConfig(env="mine", steps=48, hidden=16, eval_period=0)
    train(config, out=folder, env_factory=tool_reach)
    line = "'mine' is only a name: the run was trained with env_factory; make the environment by it"
    with pytest.raises(UnknownEnvError, match=line):
        export_run(folder, file)
    with pytest.raises(UnknownEnvError, match=line):
        resume(folder)
    for command in (("export",), ("train", "--resume")):
        assert cli.main([*command, str(folder)]) == 1
        assert line in only_line(capsys.readouterr().err)
    with pytest.raises(
        CheckpointFormatError, match=r"robot\.name: the policy was trained with 'panda', .* 'xarm6'"
    ):
        export_run(folder, file, env_factory=lambda: tool_reach("xarm6"))
    contract = load_artifact(export_run(folder, file, env_factory=tool_reach)).contract
    assert (contract.interface.action.mode, contract.provenance.env_id) == ("tool_position_delta", "mine")
    assert resume(folder, steps=56, env_factory=tool_reach).steps == 56


def test_a_file_acts_by_its_own_choice(run_folder, tmp_path, capsys):
    file, best = tmp_path / "medoid.onnx", run_folder / "policy.onnx"
    export_run(run_folder, file, ExportOptions(sampler=SamplerOptions(choice="medoid")))
    measured = {}
    for policy, *select in ((file,), (best,), (file, "best"), (file, "mean"), (file, "sample")):
        options = [f"--select={rule}" for rule in select]
        command = ["evaluate", policy, "--episodes", 1, "--env", "wpg/PandaReachDense-v0", *options]
        assert cli.main([*map(str, command), "--json", str(tmp_path / "result.json")]) == 0
        result = json.loads((tmp_path / "result.json").read_text())
        assert f"acting by {result['select']}\n" in capsys.readouterr().out
        measured[policy, *select] = result.pop("select"), result
    assert [rule for rule, _ in measured.values()] == ["medoid", "best", "best", "mean", "sample"]
    assert measured[file, "best"] == measured[best,]
    assert len({result["return_mean"] for _, result in measured.values()}) == 4


def test_without_critics_no_particle_is_the_best(run_folder, tmp_path):
    options = ExportOptions(sampler=SamplerOptions(choice="medoid"))
    artifact = load_artifact(export_run(run_folder, tmp_path / "policy.onnx", options))
    golden = artifact.contract.golden
    zeros = tuple((0.0,) * len(row) for row in golden.values)
    artifact.contract = replace(artifact.contract, golden=replace(golden, values=zeros))
    box = Box(-1.0, 1.0, (7,), np.float32)
    artifact_act(artifact, box, None, seed=0)
    with pytest.raises(CommandError, match=r"--select best: .* has no critics .*; it acts by medoid"):
        artifact_act(artifact, box, "best", seed=0)


def test_a_run_folder_stands_for_its_policy(run_folder):
    assert load_policy(run_folder).digest == load_policy(run_folder / "policy.onnx").digest


@pytest.mark.parametrize("name", ["", "policy.onnx"])
def test_commands_take_both(name, run_folder, capsys, tmp_path):
    policy, env = str(run_folder / name), "wpg/PandaReach-v0"
    assert cli.main(["inspect", policy, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["env_steps"] == 64
    result = tmp_path / "new" / "result.json"
    assert cli.main(["evaluate", policy, "--episodes", "1", "--json", str(result)]) == 0
    assert json.loads(result.read_text())["episodes"] == 1
    assert (
        cli.main(["transfer", policy, "--from", env, "--to", env, "--trials", "2", "--json", str(result)])
        == 0
    )
    assert json.loads(result.read_text())["policies"][0]["file"] == str(run_folder / "policy.onnx")
    nobody = ["--robot", "panda", "--link", "udp://127.0.0.1:1", "--goals", "1"]
    assert cli.main(["run", policy, *nobody]) == 1
    assert "127.0.0.1:1" in only_line(capsys.readouterr().err)  # the policy was found, and the robot was not


def test_a_folder_without_a_policy(tmp_path):
    with pytest.raises(CommandError, match=r"no policy.onnx in this folder"):
        load_policy(tmp_path)
    with pytest.raises(CorruptArtifactError, match="cannot be read"):
        load_policy(tmp_path / "absent")


def test_what_can_be_made_again_is_replaced(run_folder, tmp_path):
    out = tmp_path / "new" / "policy.onnx"
    for particles in ("3", "4"):
        assert cli.main(["export", str(run_folder), "--out", str(out), "--particles", particles]) == 0
        assert load_policy(out).contract.sampler.num_particles == int(particles)
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("command", "target"),
    [
        (["train", "wpg/PandaReach-v0", "--out"], "."),
        (["demo", "--out"], "."),
        (["key"], "mine"),
        (["identify", "--robot", "panda", "--link", "udp://127.0.0.1:1", "--out"], "mine"),
    ],
)
def test_what_cannot_is_left_alone(command, target, tmp_path, capsys):
    precious = tmp_path / "mine"
    precious.write_text("precious")
    assert cli.main([*command, str(tmp_path / target)]) == 1
    assert "exists" in only_line(capsys.readouterr().err)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("name", ["run.mcap", "policy.onnx", "picking.npz", "arm.toml"])
def test_no_result_replaces_what_is_of_another_kind(name, run_folder, tmp_path, capsys):
    precious = tmp_path / name
    precious.write_text("precious")
    assert cli.main(["evaluate", str(run_folder), "--episodes", "1", "--json", str(precious)]) == 1
    assert f"{precious} exists already, and {precious.suffix} files are never replaced" in only_line(
        capsys.readouterr().err
    )
    assert precious.read_text() == "precious"
    if precious.suffix != ".onnx":
        assert cli.main(["export", str(run_folder), "--out", str(precious)]) == 1
        assert precious.read_text() == "precious"


def test_a_run_log_is_left_alone(run_folder, tmp_path, capsys):
    log = tmp_path / "run.mcap"
    log.write_text("precious")
    link = ["--robot", "panda", "--link", "udp://127.0.0.1:1"]
    assert cli.main(["run", str(run_folder), *link, "--goals", "1", "--log", str(log)]) == 1
    assert log.read_text() == "precious"


LINK = ("--link", "udp://127.0.0.1:1")


@pytest.mark.parametrize(
    "command",
    [
        ("check", "so101", *LINK, "--calibration", "{file}", "--json"),
        ("doctor", "--policy", "{file}", "--json"),
        ("emulate", "panda", "--link", "pty:", "--key", "{file}", "--json"),
        ("evaluate", "{run}", "--actuators", "{file}", "--json"),
        ("export", "{run}", "--interface", "{file}", "--out"),
        ("identify", "{file}", "--robot", "panda", "--html"),
        ("plot", "{file}", "--out"),
        ("replay", "{file}", "--json"),
        ("run", "{run}", "--robot", "panda", *LINK, "--goals", "1", "--key", "{file}", "--json"),
        ("transfer", "{file}", "--from", "wpg/PandaReach-v0", "--to", "wpg/PandaReach-v0", "--html"),
    ],
)
def test_no_result_replaces_what_the_command_reads(command, run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.png"
    file.write_text("precious")
    named = [part.format(file=file, run=run_folder) for part in command]
    assert cli.main([*named, "./mine.png"]) == 1
    line = only_line(capsys.readouterr().err)
    assert line == "wpg: mine.png is read by this command: choose another name for its result"
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    "command",
    [
        ("run", "{run}", "--robot", "panda", *LINK, "--goals", "1", "--log", "{file}", "--json", "{file}"),
        ("identify", *LINK, "--robot", "panda", "--log", "{file}", "--json", "{file}"),
        ("transfer", "{run}", "--from", "A", "--to", "B", "--json", "{file}", "--html", "{file}"),
    ],
)
def test_no_result_replaces_another(command, run_folder, tmp_path, capsys):
    file = tmp_path / "result"
    assert cli.main([part.format(file=file, run=run_folder) for part in command]) == 1
    assert f"{file}: expected a name for each result" in only_line(capsys.readouterr().err)
    assert not file.exists()


def test_a_file_that_is_named_like_a_robot_may_be_a_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_outputs(tmp_path / "panda", inputs=("panda", None))


def test_a_result_that_cannot_be_written_is_known_before_the_work(run_folder, tmp_path, capsys):
    for command in (
        ["evaluate", str(run_folder), "--json"],
        ["export", str(run_folder), "--out"],
        ["check", "panda", "--link", "udp://127.0.0.1:1", "--json"],
        ["emulate", "panda", "--link", "udp://127.0.0.1:0", "--json"],
    ):
        assert cli.main([*command, str(tmp_path)]) == 1
        assert "expected the name of a file, found a folder" in only_line(capsys.readouterr().err)
    prepare_outputs(None, tmp_path / "deep" / "down" / "result.json")
    assert (tmp_path / "deep" / "down").is_dir()
