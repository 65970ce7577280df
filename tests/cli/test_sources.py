"""Sources on the command line: what is refused, who is asked, and a whole run over datagrams."""

import json
import signal
import subprocess
import sys

import pytest

from wpg.cli import main as cli
from wpg.cli.sources import AskOperator, link_sources, put_back_by
from wpg.export.testing import untrained_artifact


def run(*args: object) -> int:
    return cli.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def push(tmp_path_factory):
    """An untrained policy that pushes."""
    from wpg.hardware_bridge.description import load_description
    from wpg.sim_envs.tasks.push import push_interface, push_table

    path = tmp_path_factory.mktemp("push") / "push.onnx"
    panda = load_description("panda")
    untrained_artifact(path, push_interface(panda, push_table(panda)), env_id="wpg/PandaPush-v0")
    return path


NEEDED = "object_pos,object_rot6d,object_vel"
ARM = ("--robot", "panda", "--link", "udp://127.0.0.1:9", "--goals", "1")


class TestRefused:
    def test_the_option_that_is_missing_is_named(self, push, capsys):
        assert run("run", push, *ARM) == 1
        expected = f"{NEEDED} without a source: give --source {NEEDED}=udp://HOST:PORT"
        assert expected in capsys.readouterr().err
        assert run("run", push, *ARM, "--source", "object_pos=udp://127.0.0.1:1") == 1
        assert "give --source object_rot6d,object_vel=udp" in capsys.readouterr().err

    def test_a_source_that_nobody_needs(self, push, capsys):
        assert run("run", push, *ARM, "--source", f"{NEEDED},door=udp://127.0.0.1:1") == 1
        assert "source door: the policy sees no such term from outside" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            (("--source", "udp://127.0.0.1:1"), "expected TERM=URL"),
            (
                ("--source", "object_pos=tcp://127.0.0.1:1"),
                "a source sends datagrams: expected udp://HOST:PORT",
            ),
            (("--source", "object_pos=udp://127.0.0.1"), "expected host:port"),
            (("--put-back", "ask"), "--put-back ask: needs a terminal"),
        ],
    )
    def test_command_lines_that_are_wrong(self, push, options, line, capsys):
        assert run("run", push, *ARM, *options) == 2
        assert line in capsys.readouterr().err

    def test_another_machine_without_a_key(self, push, capsys):
        assert run("run", push, *ARM, "--source", "object_pos=udp://192.0.2.1:7710") == 1
        assert "needs a key on both" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "line", "code"),
        [
            (("--camera", "rate_hz=10"), "give --task, e.g. PandaPush", 2),
            (("--task", "PandaInsert", "--camera", "rate_hz=10"), "are for an object", 2),
            (("--task", "PandaInsert", "--engine", "kinematic"), "--task needs physics", 2),
            (("--task", "PandaPush", "--engine", "kinematic"), "--task needs physics", 2),
            (("--task", "PandaPush", "--camera", "zoom=2"), "camera 'zoom': expected one of", 2),
            (("--task", "PandaReach"), "no task 'PandaReach' with an object or a hole", 1),
        ],
    )
    def test_stand_ins_that_cannot_be(self, options, line, code, capsys):
        assert run("emulate", "panda", "--link", "udp://127.0.0.1:0", *options) == code
        assert line in capsys.readouterr().err

    def test_check_without_a_policy(self, capsys):
        assert run("check", "panda", "--link", "udp://127.0.0.1:9", "--source", "a=udp://127.0.0.1:1") == 2
        assert "for which policy? give --policy" in capsys.readouterr().err


class TestTold:
    def test_by_inspect(self, push, capsys):
        assert run("inspect", push) == 0
        assert f"--source {NEEDED}=udp://HOST:PORT" in " ".join(capsys.readouterr().out.split())
        assert run("inspect", push, "--json") == 0
        sizes = {"object_pos": 3, "object_rot6d": 6, "object_vel": 3}
        assert json.loads(capsys.readouterr().out)["sources"] == sizes

    def test_by_doctor(self, push, tmp_path, capsys):
        assert run("doctor", "--policy", push, "--json", tmp_path / "doctor.json") == 0
        finding = json.loads((tmp_path / "doctor.json").read_text())[-1]
        assert finding["name"] == "policy's sources"
        assert f"--source {NEEDED}=" in finding["fix"]
        capsys.readouterr()
        assert run("doctor", "--policy", push, "--json", "/dev/full") == 1  # a full disk does not hide it
        assert "policy's sources" in capsys.readouterr().out


def test_terms_of_one_link_are_one_source():
    sources = link_sources(["a,b=udp://127.0.0.1:1", "c=udp://127.0.0.1:2", "d=udp://127.0.0.1:1"], None)
    assert [(source.name, source.terms) for source in sources] == [
        ("udp://127.0.0.1:1", ("a", "b", "d")),
        ("udp://127.0.0.1:2", ("c",)),
    ]


class Pressed:
    def __init__(self, *calls: int) -> None:
        self.calls, self.count = calls, 0

    def enter(self) -> bool:
        self.count += 1
        return self.count in self.calls


class TestOperator:
    def asked(self, keys, troubles):
        said = []
        operator = AskOperator(keys, said.append)
        return [operator(trouble) for trouble in troubles], said

    def test_goes_on_at_enter_once_nothing_is_wrong(self):
        answers, said = self.asked(Pressed(4), ["away", "away", "", "", ""])
        assert answers == [False, False, False, True, True]
        assert len(said) == 1
        assert "away" in said[0]

    def test_enter_too_early_is_told_again(self):
        answers, said = self.asked(Pressed(2, 5), ["away", "away", "", "", ""])
        assert answers == [False, False, False, False, True]
        assert len(said) == 2

    def test_enter_before_it_was_asked_does_not_count(self):
        answers, _ = self.asked(Pressed(1), ["away", "", ""])
        assert answers == [False, False, False]

    def test_the_next_time_it_asks_anew(self):
        answers, said = self.asked(Pressed(2), ["away", "", "away again", ""])
        assert answers == [False, True, False, False]
        assert len(said) == 2

    def test_without_a_terminal(self):
        assert put_back_by(None, None, None) is None
        assert put_back_by("end", Pressed(), None) is None
        assert put_back_by("wait", None, None)("away")


def test_a_whole_run(push, tmp_path):
    """Arm, table and camera in another process; the run is logged, replayed and drawn."""
    command = [sys.executable, "-m", "wpg.cli.main", "emulate", "panda", "--link", "udp://127.0.0.1:0"]
    seen = tmp_path / "seen.json"
    emulator = subprocess.Popen(
        [*command, "--task", "PandaPush", "--camera", "rate_hz=60", "--json", seen], stdout=subprocess.PIPE
    )
    safety, log = tmp_path / "patient.toml", tmp_path / "run.mcap"
    safety.write_text("stale_s = 5.0\noverrun_s = 5.0\nsource_stale_s = 5.0\nholds_max = 1000\n")
    try:
        hello = json.loads(emulator.stdout.readline())
        assert hello["terms"] == NEEDED.split(",")
        arm = ("--robot", "panda", "--link", hello["link"], "--source", f"{NEEDED}={hello['source']}")
        options = ("--duration", "3", "--safety", safety, "--log", log, "--json", tmp_path / "run.json")
        assert run("run", push, *arm, *options) == 0
    finally:
        emulator.send_signal(signal.SIGTERM)
        emulator.communicate(timeout=60)
    report = json.loads((tmp_path / "run.json").read_text())
    (source,) = report["sources"]
    assert source["terms"] == NEEDED.split(",")
    assert source["readings"] > 3
    assert report["limit_violations"] == json.loads(seen.read_text())["commands_outside_limits"] == 0
    assert json.loads(seen.read_text())["put_backs"] == 0
    assert run("replay", log, "--json", tmp_path / "replay.json") == 0
    found = json.loads((tmp_path / "replay.json").read_text())
    assert found["observations_equal"] == found["equal"] == found["decisions"] > 0
    assert run("plot", log) == 0
