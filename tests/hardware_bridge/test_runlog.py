import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.robot import JointCommand, RobotState
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import read_log

METADATA = {"robot": "panda", "noise_seed": "7"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.mcap"


def record_tick(log, number, **changes):
    n = np.full(7, float(number))
    state = RobotState(joint_pos=n, joint_vel=-n, joint_torque=2 * n, time_s=number * 0.01, sequence=number)
    record = {
        "time_s": number * 0.005,
        "phase": "running",
        "state": state,
        "command": JointCommand(joint_pos=n + 0.1, joint_vel=n * 0.1),
        "lateness_s": 1e-6,
        "sense_to_act_s": 2e-4,
    }
    log.tick(**(record | changes))


def test_what_is_written_is_read(path):
    log = RunLog(path, METADATA, {"contract.json": b'{"a": 1}'})
    for number in range(100):
        record_tick(log, number, **({"state": None} if number == 50 else {}))
    obs = np.array([1 / 3, np.pi], np.float32)
    action = np.array([0.1, -0.7], np.float32)
    log.decision(
        time_s=0.25,
        obs=obs,
        decision=Decision(action, 0.03, fresh=True),
        goal=np.array([0.4, 0.0, 0.3]),
        target=np.array([0.1, 1 / 3]),
        tool=np.array([0.4, 0.2, 0.7]),
        achieved=np.array([0.4, 0.3, 0.7]),
        policy_s=5e-5,
    )
    for number in range(3):
        place = np.array([0.5, number / 3, 0.02])
        log.source(time_s=0.1 * number, name="object_pos", value=place, age_s=0.03)
    log.source(time_s=0.1, name="object_rot6d", value=np.arange(6.0), age_s=0.03)
    log.event(time_s=0.3, name="stale_state", detail="the last state is 20 ms old")
    log.attach("report.json", b"{}")
    log.close()
    assert (log.dropped, log.error) == (0, "")
    run = read_log(path)
    assert run.complete
    assert run.metadata == METADATA
    assert run.attachments == {"contract.json": b'{"a": 1}', "report.json": b"{}"}
    assert len(run.state) == 99
    assert len(run.command) == len(run.timing) == 100
    np.testing.assert_array_equal(run.command["joint_pos_rad"][:, 0], np.arange(100) + 0.1)
    np.testing.assert_allclose(run.command.time_s, np.arange(100) * 0.005, atol=1e-9)
    np.testing.assert_array_equal(run.state["joint_torque_nm"][7], np.full(7, 14.0))
    assert run.state["status"][0] == "ARMED"
    np.testing.assert_array_equal(run.decision["obs"][0].astype(np.float32), obs)
    assert run.decision["fresh"].tolist() == [True]
    np.testing.assert_array_equal(run.decision["joint_target_rad"], [[0.1, 1 / 3]])
    np.testing.assert_array_equal(run.decision["action"][0].astype(np.float32), action)
    assert run.decision["goal_error_m"][0] == pytest.approx(0.5)
    assert set(run.sources) == {"object_pos", "object_rot6d"}
    places = run.sources["object_pos"]
    assert places["number"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(places["value"], [[0.5, number / 3, 0.02] for number in range(3)])
    np.testing.assert_allclose(places.time_s, [0.0, 0.1, 0.2], atol=1e-9)
    assert run.sources["object_rot6d"]["value"].shape == (1, 6)
    assert (run.event["name"][0], run.event["detail"][0]) == ("stale_state", "the last state is 20 ms old")
    assert run.timing["phase"][0] == "running"


def test_channels_have_json_schemas(path):
    from mcap.reader import make_reader

    RunLog(path, METADATA, {}).close()
    with open(path, "rb") as file:
        summary = make_reader(file).get_summary()
    channels = {channel.topic: channel for channel in summary.channels.values()}
    assert set(channels) == {"/state", "/command", "/decision", "/timing", "/event"}
    for channel in channels.values():
        schema = summary.schemas[channel.schema_id]
        assert (channel.message_encoding, schema.encoding) == ("json", "jsonschema")
        assert json.loads(schema.data)["type"] == "object"


def test_records_a_run(path, bench, reach_policy):
    log = RunLog(path, METADATA, {})
    report = ControlLoop(
        bench.robot, reach_policy, LoopConfig(goals=2), clock=bench.clock, recorder=log
    ).run()
    log.close()
    run = read_log(path)
    assert len(run.command) + log.dropped == report.ticks
    assert len(run.decision) == reach_policy.num_calls
    last = run.decision["goal_m"][-1]
    np.testing.assert_allclose(last, report.goal_results[-1].goal)
    assert list(run.event["name"]) == ["connected", "checked", "armed", "running", "stopping", "parked"]


def test_records_longer_than_the_pipe_takes_at_once(path):
    log = RunLog(path, METADATA, {"big.json": b"x" * 3_000_000})
    obs = np.arange(30_000, dtype=np.float32)
    for _ in range(200):
        log.decision(
            time_s=0.0,
            obs=obs,
            decision=Decision(obs[:2], 0.0),
            goal=None,
            target=np.zeros(7),
            tool=np.zeros(3),
            achieved=np.zeros(3),
            policy_s=0.0,
        )
    log.close()
    run = read_log(path)
    assert run.complete
    assert len(run.decision) + log.dropped == 200
    assert len(run.decision) >= 1
    np.testing.assert_array_equal(run.decision["obs"][-1], obs)


def test_a_slow_writer_costs_records_not_time(path):
    log = RunLog(path, METADATA, {})
    os.kill(log._process.pid, signal.SIGSTOP)
    for number in range(20_000):
        record_tick(log, number)
    assert log.dropped > 0
    os.kill(log._process.pid, signal.SIGCONT)
    log.close()
    assert log.error == ""
    run = read_log(path)
    assert len(run.command) + log.dropped == 20_000


def test_storage_that_stalls_is_not_waited_for_without_end(path, monkeypatch):
    monkeypatch.setattr("wpg.hardware_bridge.run_log.log.FINISH_TIMEOUT_S", 0.2)
    log = RunLog(path, METADATA, {})
    os.kill(log._process.pid, signal.SIGSTOP)  # as if its disk did not answer
    for number in range(5_000):
        record_tick(log, number)
    assert log.dropped > 0
    log.attach("report.json", b"x" * 8_000)
    assert log.error == f"{path}: not finished within 0.2 s"
    log.close()
    assert log.error == f"{path}: not finished within 0.2 s"


def test_storage_that_stalls_from_the_first_record_on(path, monkeypatch):
    monkeypatch.setattr("wpg.hardware_bridge.run_log.log.FINISH_TIMEOUT_S", 0.2)
    popen = subprocess.Popen

    def stalled(*arguments, **options):
        process = popen(*arguments, **options)
        with process.stdout as answers:
            process.stdout = io.BytesIO(answers.readline())
        os.kill(process.pid, signal.SIGSTOP)
        return process

    monkeypatch.setattr(subprocess, "Popen", stalled)
    log = RunLog(path, METADATA, {"big.json": b"x" * 3_000_000})
    record_tick(log, 0)
    log.close()
    assert (log.error, log.dropped) == (f"{path}: not finished within 0.2 s", 1)


def test_existing_file_is_kept(path):
    path.write_text("precious")
    with pytest.raises(LogError, match=r"run\.mcap: File exists"):
        RunLog(path, METADATA, {})
    assert path.read_text() == "precious"


def test_folder_that_does_not_exist_is_made(tmp_path):
    path = tmp_path / "new" / "folder" / "run.mcap"
    RunLog(path, METADATA, {}).close()
    assert read_log(path).metadata == METADATA


@pytest.mark.parametrize("name", ["taken/run.mcap", "taken/folder/run.mcap"])
def test_a_file_is_no_folder(tmp_path, name):
    (tmp_path / "taken").write_text("precious")
    with pytest.raises(LogError, match=r"^no run log: \S*: \S*/taken(/folder)? is no folder$"):
        RunLog(tmp_path / name, METADATA, {})
    assert (tmp_path / "taken").read_text() == "precious"


def test_a_folder_that_cannot_be_made(tmp_path):
    with pytest.raises(LogError, match=r"^no run log: .*/run\.mcap: File name too long$"):
        RunLog(tmp_path / ("n" * 300) / "run.mcap", METADATA, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_the_whole_group_leaves_the_writer_to_the_bridge(path, number):
    log = RunLog(path, METADATA, {})
    os.kill(log._process.pid, number)
    record_tick(log, 0)
    log.close()
    assert log.error == ""
    assert len(read_log(path).command) == 1


def test_writer_that_dies_ends_the_log_not_the_run(path, bench, reach_policy):
    log = RunLog(path, METADATA, {})
    os.kill(log._process.pid, signal.SIGKILL)
    log._process.wait()
    report = ControlLoop(
        bench.robot, reach_policy, LoopConfig(goals=1), clock=bench.clock, recorder=log
    ).run()
    log.close()
    assert report.completed
    assert log.error == f"{path}: its writer died"
    assert log.dropped > 100


def test_what_the_writer_says_is_kept_though_its_pipe_broke_first(path):
    log = RunLog(path, METADATA, {})
    resource.prlimit(log._process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    log.attach("big.bin", b"x" * 1_000_000)
    log._process.wait()
    record_tick(log, 0)
    assert log.error == f"{path}: its writer died"
    log.close()
    assert log.error == f"{path}: File too large"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_full_disk_ends_the_log_with_one_line():
    from wpg.hardware_bridge.run_log import writer

    code = (
        "import builtins, sys; real = builtins.open;"
        "builtins.open = lambda path, mode='r', *a, **k: real('/dev/full', 'wb') if mode == 'xb' "
        "else real(path, mode, *a, **k);"
        f"import runpy; sys.argv = ['x', 'run.mcap', '0']; runpy.run_path({writer.__file__!r}, "
        "run_name='__main__')"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], input=b"", capture_output=True, timeout=60, check=False
    )
    assert process.returncode == 1
    assert process.stdout.decode().splitlines() == ["ready", "run.mcap: No space left on device"]
    assert process.stderr == b""


def test_killed_bridge_leaves_a_whole_log(path):
    code = f"""
import os, signal, sys
import numpy as np
from pathlib import Path
from wpg.hardware_bridge.run_log.log import RunLog
log = RunLog(Path({str(path)!r}), {METADATA!r}, {{}})
for number in range(500):
    log.event(time_s=number * 0.1, name="tick", detail="")
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    run = None
    while time.monotonic() < deadline and not (run and run.complete):
        # The writer is still at it: the file grows.
        with contextlib.suppress(LogError):
            run = read_log(path)
    assert run.complete
    assert len(run.event) == 500


class TestReading:
    def test_cut_off(self, path):
        log = RunLog(path, METADATA, {})
        for number in range(3000):
            record_tick(log, number)
        log.close()
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        run = read_log(path)
        assert not run.complete
        assert run.metadata == METADATA
        assert 0 < len(run.command) < 3000

    def test_no_file(self, path):
        with pytest.raises(LogError, match="No such file"):
            read_log(path)

    def test_no_log(self, path):
        path.write_bytes(b"something else entirely" * 10)
        with pytest.raises(LogError, match="expected a run log of wpg"):
            read_log(path)
