"""The command line as its users meet it: exit codes, and one clear line for each mistake."""

import importlib.util
import itertools
import json
from importlib import metadata

import gymnasium
import pytest
from error_line import only_line
from gymnasium.envs.registration import EnvSpec

from wpg.cli import main as cli
from wpg.cli.options import usage_error
from wpg.hardware_bridge.motions.joint_check import JointCheck


def run(*args: str) -> int:
    return cli.main(args)


def test_list_has_stable_keys(capsys):
    assert run("list", "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    assert set(listing) == {"envs", "robots", "links", "protocols"}
    assert "wpg/PandaReach-v0" in listing["envs"]
    assert "wpg/PandaReachBullet-v0" in listing["envs"]
    assert "panda" in listing["robots"]
    assert "pty:" in listing["links"]
    assert "native" in listing["protocols"]


def test_errors_of_settings_name_the_option():
    error = usage_error(ValueError("num_particles: expected at least 1, found 0"), num_particles="particles")
    assert str(error) == "--particles: expected at least 1, found 0"
    assert str(usage_error(ValueError("max_s must be above 0"))) == "--max-s must be above 0"
    assert str(usage_error(ValueError("'x' is no setting"))) == "'x' is no setting"


def test_list_for_people(capsys):
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("Franka Emika Panda" in line for line in lines)
    listed = [line for line in lines if "wpg/PandaPickAndPlaceDenseBullet-v0" in line]
    assert "dense" in listed[0]  # a pipe breaks no line


def test_list_shows_what_others_registered_in_the_same_namespace(capsys, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "wpg/Mine-v0", EnvSpec("wpg/Mine-v0", "mine:Env"))
    assert run("list") == 0
    assert "wpg/Mine-v0" in capsys.readouterr().out


@pytest.mark.parametrize("args", [[], ["frobnicate"], ["inspect"], ["train", "--stepz", "1"]])
def test_what_cannot_be_read_exits_with_2(args, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("train", "X", "--steps", "1e4"), "--steps: expected a whole number, found '1e4'"),
        (("train", "X", "--particles", "many"), "--particles: expected a whole number, found 'many'"),
        (("check", "panda", "--link", "pty:", "--travel", "far"), "--travel: expected a number, found 'far'"),
        (
            ("run", "p", "--robot", "panda", "--link", "pty:", "--goal", "0", "1", "z"),
            "--goal: expected a number, found 'z'",
        ),
        (("evaluate", "p", "--select", "good"), "--select: expected one of best, mean, sample, found 'good'"),
    ],
)
def test_values_of_another_kind_are_told_in_one_line(args, line, capsys):
    assert run(*args) == 2
    assert only_line(capsys.readouterr().err) == f"wpg: {line}; see wpg {args[0]} --help"


def test_an_unknown_option_points_to_the_help_that_has_all(capsys):
    with pytest.raises(SystemExit):
        run("train", "X", "--stepz", "1")
    said = capsys.readouterr().err
    assert "--steps INT" in said
    assert "wpg train --help" in said


def test_a_mistyped_command_is_told_the_one_that_was_meant(capsys):
    assert run("trian", "wpg/PandaReach-v0") == 2
    said = only_line(capsys.readouterr().err)
    assert said == "wpg: no command 'trian': did you mean train? `wpg --help` shows all"


ARM = ("panda", "--link", "udp://127.0.0.1:1")
TO_ARM = ("--robot", *ARM)
WRONG = {
    "demo": ("--goals", "-1"),
    "train": ("wpg/PandaReach-v0", "--particles", "0"),
    "evaluate": ("p.onnx", "--episodes", "0"),
    "play": ("p.onnx", "--seed", "-1"),
    "export": ("run", "--refine", "-1"),
    "emulate": ("panda", "--link", "pty:", "--faults", "drop=2"),
    "run": ("p.onnx", *TO_ARM, "--goals", "0"),
    "plot": ("run.mcap", "--out", "run.pdf"),
    "transfer": ("p.onnx", "--from", "wpg/PandaReach-v0", "--to", "pty:", "--trials", "1"),
    "check": (*ARM, "--travel", "9"),
    "identify": ("run.mcap", *TO_ARM[:2], "--key", "file"),
}
"""Of every command with options that can be wrong by themselves, some that are: the last but one is named."""
NOT_THERE = {
    "train": ("wpg/PandaReach-v9",),
    "evaluate": ("p.onnx",),
    "play": ("p.onnx",),
    "export": ("none",),
    "inspect": ("p.onnx",),
    "emulate": ("pandra", "--link", "pty:"),
    "run": ("p.onnx", *TO_ARM, "--goals", "1"),
    "replay": ("run.mcap",),
    "plot": ("run.mcap",),
    "transfer": ("p.onnx", "--from", "wpg/PandaReach-v0", "--to", "pty:"),
    "check": ("pandra", "--link", "pty:"),
    "identify": ("run.mcap", "--robot", "panda"),
    "key": ("none/key",),
}
"""Of every command that takes a file or a name, some that are not there."""


@pytest.mark.parametrize(
    ("args", "code"),
    [((name, *args), 2) for name, args in WRONG.items()]
    + [((name, *args), 1) for name, args in NOT_THERE.items()],
)
def test_exit_codes(args, code, capsys, tmp_path, monkeypatch):
    """2 is for the command line, 1 for the world; one line says why, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    assert run(*args) == code
    assert only_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [name for name in WRONG if name != "emulate"])  # it names the fault
def test_the_option_is_named_as_it_was_typed(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(command, *WRONG[command])
    assert WRONG[command][-2] in only_line(capsys.readouterr().err)


def test_what_a_run_was_resumed_with_is_named(capsys, tmp_path):
    assert run("train", "--resume", str(tmp_path), "--steps", "0") == 2
    assert "--steps must be a whole number of at least 1" in only_line(capsys.readouterr().err)
    assert run("train", "--resume", str(tmp_path), "--max-seconds", "1", "--seed", "1") == 2
    assert "leave out --seed" in only_line(capsys.readouterr().err)


def test_names_are_printed_as_they_are(capsys, tmp_path):
    """What stands in brackets is no markup, and what is to be typed next can be typed."""
    file = tmp_path / "the [bold] key [x]"
    assert run("key", str(file)) == 0
    said = "".join(capsys.readouterr().out.splitlines())
    assert said == f"wrote {file}; give both ends --key '{file}'"


def test_memory_that_is_not_there(capsys, monkeypatch):
    def too_large() -> None:
        """Train."""
        raise MemoryError("Unable to allocate 125. GiB")

    monkeypatch.setitem(cli.COMMANDS, "train", too_large)
    assert run("train") == 1
    assert only_line(capsys.readouterr().err) == "wpg: not enough memory: Unable to allocate 125. GiB"


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_is_without_noise(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "None" not in shown
    assert "default: False" not in shown
    assert "default: ''" not in shown
    assert "--no-" not in shown


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_breaks_lines_where_the_terminal_ends(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        run(command, "--help")
    _, text, *_ = capsys.readouterr().out.split("\n\n")
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    for line, following in itertools.pairwise(lines):
        has_room = len(f"{line} {following.split()[0]}") <= 80
        assert line.endswith((".", "?")) or not has_room


def test_help_of_all_has_a_summary_of_each(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    shown = capsys.readouterr().out
    assert "Train a policy by Wasserstein policy gradient" in shown
    assert "config.yaml" not in shown


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"wpg {metadata.version('wpg')}\n"


def test_a_link_that_there_is_not_names_those_there_are(capsys):
    assert run("check", "panda", "--link", "carrier-pigeon:") == 2
    assert "serial, udp, tcp, pty, fci, lerobot" in only_line(capsys.readouterr().err)


def test_unknown_environment_names_near_matches(capsys, tmp_path):
    assert run("train", "wpg/PandaRech-v0", "--out", str(tmp_path / "run")) == 1
    line = only_line(capsys.readouterr().err)
    assert "wpg/PandaRech-v0" in line
    assert "wpg/PandaReach-v0" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("made", "advice"),
    [
        ("mine", "with --out"),
        ("config.yaml", "with --out, or remove it: that run has no checkpoint"),
        ("checkpoint/state.safetensors", "with --out, or go on with it by --resume {folder}"),
    ],
)
def test_run_folder_that_exists_is_left_alone(made, advice, capsys, tmp_path):
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).write_text("precious")
    assert run("train", "wpg/PandaReach-v0", "--out", str(tmp_path)) == 1
    said = only_line(capsys.readouterr().err)
    assert said.endswith(f"exists already: choose another {advice.format(folder=tmp_path)}")
    assert (tmp_path / made).read_text() == "precious"


@pytest.mark.parametrize("command", ["inspect", "evaluate"])
def test_missing_and_foreign_files(command, capsys, tmp_path):
    assert run(command, str(tmp_path / "none.onnx")) == 1
    assert "none.onnx" in only_line(capsys.readouterr().err)
    (tmp_path / "text.onnx").write_text("not a model")
    assert run(command, str(tmp_path / "text.onnx")) == 1
    assert "expected a wpg artifact" in only_line(capsys.readouterr().err)


def test_folder_that_is_no_run(capsys, tmp_path):
    assert run("export", str(tmp_path)) == 1
    assert "no run folder" in only_line(capsys.readouterr().err)


def test_missing_package_names_the_extra(capsys, monkeypatch):
    def needs_torch() -> None:
        """Train."""
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setitem(cli.COMMANDS, "train", needs_torch)
    assert run("train") == 1
    assert only_line(capsys.readouterr().err) == "wpg: this command needs torch: pip install 'wpg[train]'"


def test_a_defect_keeps_its_trace(monkeypatch):
    def broken() -> None:
        """Train."""
        raise ValueError("defect")

    monkeypatch.setitem(cli.COMMANDS, "train", broken)
    with pytest.raises(ValueError, match="defect"):
        run("train")


def test_emulator_refuses_unknown_robots_and_links(capsys):
    assert run("emulate", "pandra", "--link", "pty:") == 1
    assert "pandra" in only_line(capsys.readouterr().err)
    assert run("emulate", "panda", "--link", "carrier-pigeon:") == 2
    assert "carrier-pigeon" in only_line(capsys.readouterr().err)


def test_play_films_an_environment(capsys, tmp_path):
    from PIL import Image

    out = tmp_path / "play.gif"
    assert run("play", "wpg/PandaReachBullet-v0", "--out", str(out), "--episodes", "1") == 0
    with Image.open(out) as film:
        assert film.n_frames == 51
        assert film.size == (640, 480)


def test_play_refuses_what_it_cannot_write(capsys, tmp_path):
    assert run("play", "wpg/PandaReach-v0", "--out", str(tmp_path / "play.mp4")) == 1
    assert ".gif" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("travel", ["0", "-0.05", "5"])
def test_check_moves_little_or_not_at_all(travel, capsys):
    assert run("check", "panda", "--link", "udp://127.0.0.1:1", "--travel", travel) == 2
    assert "--travel: expected" in only_line(capsys.readouterr().err)


def test_what_check_writes_has_one_shape(tmp_path, monkeypatch):
    good = JointCheck(
        joint="panda_joint1", moved="panda_joint1", scale=1.0, lag_s=0.02, noise_rad=1e-5, fault=""
    )
    monkeypatch.setattr("wpg.cli.commands.check.check_joints", lambda driver, **options: [good])
    assert run("check", *ARM, "--json", str(tmp_path / "check.json")) == 0
    found = json.loads((tmp_path / "check.json").read_text())
    assert [joint["joint"] for joint in found["joints"]] == ["panda_joint1"]
    assert found["sources"] == []


def test_an_emulator_without_a_simulator(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mujoco" else found(name))
    assert run("emulate", "panda", "--link", "pty:") == 1
    line = only_line(capsys.readouterr().err)
    assert "pip install 'wpg[train]'; --engine kinematic needs none" in line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"action_delay_s = -0.01", "actuators.toml: action_delay_s: expected 0 to 1, found -0.01"),
        (b"delay = 1", "actuators.toml: Object contains unknown field `delay`"),
        (b"delay_s = ", "actuators.toml: Invalid value"),
        (b"\xff\xfe", "actuators.toml: "),
    ],
)
def test_actuators_that_are_none_are_named(content, line, capsys, tmp_path):
    file = tmp_path / "actuators.toml"
    file.write_bytes(content)
    assert run("evaluate", "p.onnx", "--actuators", str(file)) == 1
    assert line in only_line(capsys.readouterr().err)


def test_files_that_are_no_text_are_named(capsys, tmp_path):
    file = tmp_path / "file.toml"
    file.write_bytes(b"\xff\xfe")
    for args in (
        ("check", str(file), "--link", "pty:"),
        ("run", "p.onnx", *TO_ARM, "--goals", "1", "--safety", str(file)),
    ):
        assert run(*args) == 1
        assert f"{file}: 'utf-8' codec can't decode" in only_line(capsys.readouterr().err)


def test_places_that_cannot_be_written_are_known_first(capsys, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("no folder")
    assert run("evaluate", "p.onnx", "--json", str(file / "result.json")) == 1
    assert only_line(capsys.readouterr().err) == f"wpg: {file / 'result.json'}: {file} is no folder"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert run("evaluate", "p.onnx", "--json", str(file)) == 1
    assert only_line(capsys.readouterr().err) == f"wpg: {file}: may not be written"


def test_what_the_system_refuses_has_no_number(capsys, monkeypatch):
    def refused() -> None:
        """Train."""
        raise PermissionError(13, "Permission denied", "/run")

    monkeypatch.setitem(cli.COMMANDS, "train", refused)
    assert run("train") == 1
    assert only_line(capsys.readouterr().err) == "wpg: /run: Permission denied"


def test_no_steps_are_not_the_default_steps(capsys, tmp_path):
    assert run("train", "wpg/PandaReach-v0", "--steps", "0", "--out", str(tmp_path / "run")) == 2
    assert "steps must be a whole number of at least 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
