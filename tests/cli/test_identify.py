"""``wpg identify``: bad usage, and a log that exists already."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from wpg.cli.commands import identify as command
from wpg.cli.commands.identify import _record
from wpg.cli.main import main
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import LogError
from wpg.sim_envs.effects import Effects
from wpg.sim_envs.identification import identify, recording


def test_nothing_is_said_to_move_without_a_log(tmp_path, capsys):
    log = tmp_path / "excitation.mcap"
    log.write_text("precious")
    with pytest.raises(LogError):
        _record(SimpleNamespace(description=load_description("panda")), log, 0, SafetyConfig(), Console())
    assert "goes home" not in capsys.readouterr().out
    assert log.read_text() == "precious"


def test_a_report_that_cannot_be_written_leaves_the_figures(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError("No space left on device")

    found = SimpleNamespace(effects=Effects())
    monkeypatch.setattr(command, "read_log", lambda path: None)
    monkeypatch.setattr(recording, "recording_of", lambda log, description: SimpleNamespace(time_s=[30.0]))
    monkeypatch.setattr(identify, "identify", lambda description, recording: (found, None))
    monkeypatch.setattr(command, "_show", lambda found, console: None)
    monkeypatch.setattr(command, "write_json", full)
    out = tmp_path / "actuators.toml"
    assert main(["identify", "run.mcap", "--robot", "panda", "--out", str(out)]) == 1
    assert out.exists()
    assert capsys.readouterr().err.endswith("No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--robot", "panda"], "from what", 2),
        (["nowhere.mcap", "--robot", "panda"], "nowhere.mcap: No such file", 1),
        (
            ["--robot", "panda", "--link", "udp://127.0.0.1:9", "--out", "/dev/null/a.toml"],
            "/dev/null",
            1,
        ),
        (["x.mcap", "--robot", "panda", "--log", "y.mcap"], "give --link", 2),
    ],
)
def test_bad_usage_is_one_line(arguments, message, code, capsys):
    assert main(["identify", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
