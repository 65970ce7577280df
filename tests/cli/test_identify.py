"""``wpg identify``: bad usage, and a log that exists already."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from wpg.cli.commands.identify import _record
from wpg.cli.main import main
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import LogError


def test_nothing_is_said_to_move_without_a_log(tmp_path, capsys):
    log = tmp_path / "excitation.mcap"
    log.write_text("precious")
    with pytest.raises(LogError):
        _record(SimpleNamespace(description=load_description("panda")), log, 0, SafetyConfig(), Console())
    assert "goes home" not in capsys.readouterr().out
    assert log.read_text() == "precious"


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
