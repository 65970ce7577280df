"""What ``wpg run`` says of a run, and that nothing hides it."""

import contextlib
import errno
import json
import shutil
import sys
import types
from importlib.resources import files

import gymnasium
import pytest

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.cli import main as cli
from wpg.hardware_bridge.control.report import RunReport
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.keys import write_key
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.sim_envs.tasks.reach import reach_interface

LINK = ("--link", "udp://127.0.0.1:1")
RUN = ("run", "p.onnx", "--robot", "panda", *LINK)


def test_a_run_is_reported_although_its_terminal_is_gone(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def closed_meanwhile(console):
        yield None
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("wpg.cli.commands.run.keys_of_terminal", closed_meanwhile)
    monkeypatch.setattr("wpg.cli.commands.run.load_policy", lambda *_: None)
    monkeypatch.setattr("wpg.cli.commands.run.run_policy", lambda *_, **options: {"ticks": 3})
    report = tmp_path / "run.json"
    cli.main((*RUN, "--goals", "1", "--json", str(report)))
    assert json.loads(report.read_text()) == {"ticks": 3}


def report_of(**found):
    """The report of a run in good order, but for what was ``found``."""
    no_time = LatencyHistogram().summary()
    plain = {
        "rate_hz": 200.0,
        "ticks": 3,
        "duration_s": 0.015,
        "missed_deadlines": 0,
        "lateness_us": no_time,
        "policy_us": no_time,
        "sense_to_act_us": no_time,
        "lateness_bars": [],
        "safety_events": {},
        "homings": 0,
        "put_backs": 0,
        "sources": [],
        "limit_violations": 0,
        "goals": 0,
        "successes": 0,
        "goal_results": [],
        "end_reason": "duration",
        "message": "",
        "final_phase": "parked",
    }
    return RunReport(**plain | found)


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ({"log_dropped": 607, "log_error": "r.mcap: File too large"}, 1, "not whole: r.mcap: File too large"),
        ({"log_dropped": 607}, 0, "the run log could not take 607 records"),
        (
            {"log_error": "r.mcap: its writer died", "final_phase": "fault", "message": "not confirmed"},
            1,
            "by duration: not confirmed; the run log is not whole: r.mcap: its writer died",
        ),
    ],
)
def test_a_run_says_what_its_log_lacks(found, code, said, capsys, monkeypatch):
    report = report_of(**found)
    monkeypatch.setattr("wpg.cli.commands.run.load_policy", lambda *_: None)
    monkeypatch.setattr("wpg.cli.commands.run.run_policy", lambda *_, **options: report)
    assert cli.main((*RUN, "--duration", "1")) == code
    printed = capsys.readouterr()
    assert said in (printed.err if code else printed.out)
    assert ("607" in printed.out) == (code == 0)
    # A report that cannot be written hides nothing of it.
    assert cli.main((*RUN, "--duration", "1", "--json", "/dev/full")) == 1
    printed = capsys.readouterr()
    assert "/dev/full: cannot be written: No space left on device" in printed.err
    assert "ended by" in printed.out
    assert not code or said in printed.err


@pytest.mark.parametrize(
    ("found", "asked", "rows"),
    [
        (
            {"goals": 2, "successes": 2, "safety_events": {"stale_read": 1080}},
            20,
            {
                "goals reached": "2 of 2 tried, 20 asked for",
                "stale reads": "1,080, each replaced by the last good state",
                "safety events": "none",
            },
        ),
        (
            {"goals": 20, "successes": 19, "safety_events": {"stale_read": 1, "overrun": 2}},
            20,
            {"goals reached": "19 of 20", "safety events": "overrun 2"},
        ),
    ],
)
def test_a_run_says_what_it_did_of_what_was_asked(found, asked, rows, capsys, monkeypatch):
    monkeypatch.setattr("wpg.cli.commands.run.load_policy", lambda *_: None)
    monkeypatch.setattr("wpg.cli.commands.run.run_policy", lambda *_, **options: report_of(**found))
    assert cli.main((*RUN, "--goals", str(asked))) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for name, value in rows.items():
        assert [line.removeprefix(name).strip() for line in printed if line.startswith(name)] == [value]


def hint_of(interface, capsys, monkeypatch, *args, env_id="wpg/PandaReach-v0", robot="panda"):
    """What a run that misses most goals says of the way to find out why."""
    provenance = types.SimpleNamespace(env_id=env_id)
    artifact = types.SimpleNamespace(
        contract=types.SimpleNamespace(provenance=provenance, interface=interface)
    )
    report = report_of(goals=4, successes=1)
    monkeypatch.setattr("wpg.cli.commands.run.load_policy", lambda *_: artifact)
    monkeypatch.setattr("wpg.cli.commands.run.run_policy", lambda *_, **options: report)
    assert cli.main(("run", "p.onnx", "--robot", robot, *LINK, "--goals", "4", *args)) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("what limits it: wpg transfer ") for line in lines if "transfer" in line]


def test_a_run_that_misses_goals_says_how_to_find_out_why(tmp_path, capsys, monkeypatch):
    reach = reach_interface(load_description("panda"))
    log = str(tmp_path / "run.mcap")
    found = hint_of(reach, capsys, monkeypatch, "--log", log)
    assert found == [f"p.onnx --from wpg/PandaReach-v0 --robot panda --to {log}"]

    key, arm = tmp_path / "robot.key", tmp_path / "arm.toml"
    write_key(key)
    shutil.copy(files("wpg.hardware_bridge").joinpath("robots", "panda.toml"), arm)
    found = hint_of(reach, capsys, monkeypatch, "--key", str(key), robot=str(arm))
    there = "--to udp://127.0.0.1:1"
    assert found == [f"p.onnx --from wpg/PandaReach-v0 --robot {arm} {there} --key {key}"]


@pytest.mark.parametrize("task", ["PandaPush", "PandaInsert"])
def test_no_comparison_is_recommended_that_would_be_refused(task, capsys, monkeypatch):
    with contextlib.closing(gymnasium.make(f"wpg/{task}-v0")) as env:
        interface = env.unwrapped.interface
    assert hint_of(interface, capsys, monkeypatch, env_id=f"wpg/{task}-v0") == []


def test_a_task_is_known_by_the_module_that_registers_it_too(capsys, monkeypatch):
    reach = reach_interface(load_description("panda"))
    (found,) = hint_of(reach, capsys, monkeypatch, env_id="wpg.sim_envs:wpg/PandaReach-v0")
    assert "--from wpg.sim_envs:wpg/PandaReach-v0" in found


def test_no_comparison_is_recommended_without_a_simulator(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wpg.sim_envs.registration", None)
    assert hint_of(reach_interface(load_description("panda")), capsys, monkeypatch) == []


def test_no_comparison_with_an_environment_of_the_users_own(capsys, monkeypatch):
    reach = reach_interface(load_description("panda"))
    for env_id in ("my_module:My/Env-v0", "wpg/Mine-v0"):
        assert hint_of(reach, capsys, monkeypatch, env_id=env_id) == []
