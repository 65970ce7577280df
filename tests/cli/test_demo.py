"""The demo with little training and few goals: every stage, every file, every key."""

import json

import pytest

from wpg.cli.demo.command import Stages
from wpg.cli.main import main
from wpg.cli.options import CommandError
from wpg.cli.terminal import terminal


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "--out", str(out), "--steps", "400", "--episodes", "2", "--goals", "1"]) == 0
    return out


@pytest.mark.timeout(600)
def test_summary_has_stable_keys(demo):
    summary = json.loads((demo / "summary.json").read_text())
    assert set(summary) == {
        "wall_s",
        "train_s",
        "success_mujoco",
        "success_pybullet",
        "success_serial",
        "success_udp",
        "goals_serial",
        "goals_udp",
        "limit_violations",
        "rate_hz",
        "lateness_us",
    }
    assert set(summary["lateness_us"]) == {"p50", "p99", "p999", "max"}
    assert summary["goals_serial"] == summary["goals_udp"] == 1
    assert summary["limit_violations"] == 0


def test_both_witnesses_agree(demo):
    for link in ("serial", "udp"):
        report = json.loads((demo / f"run_{link}.json").read_text())
        witness = json.loads((demo / f"witness_{link}.json").read_text())
        assert report["end_reason"] == "goals_done"
        assert report["limit_violations"] == witness["commands_outside_limits"] == 0
        # What the link lost on a busy machine was not sent again, but nothing came that had not been sent.
        assert 0 < witness["commands_ok"] <= report["ticks"]


def test_report_stands_alone(demo):
    page = (demo / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "data:image/png;base64," in page
    assert "wpg run " in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_folder_that_exists_is_left_alone(demo, capsys):
    before = sorted(path.name for path in demo.iterdir())
    assert main(["demo", "--out", str(demo)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert sorted(path.name for path in demo.iterdir()) == before


def test_an_emulator_that_has_ended_is_not_waited_for(tmp_path, capfd):
    emulator = Stages(terminal()).emulator("tcp://0.0.0.0:1", tmp_path / "witness.json")
    with (
        pytest.raises(CommandError, match=r"`wpg emulate panda --link tcp://\S+ .*` ended with exit code 1"),
        emulator,
    ):
        pytest.fail("it serves")
    assert "without a key only this machine may be served" in capfd.readouterr().err
