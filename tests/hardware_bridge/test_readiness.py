"""Joint check, doctor and key files: what is done before a robot moves."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from wpg.hardware_bridge.doctor import diagnose
from wpg.hardware_bridge.emulation.emulator import Emulator
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import BridgeError, LinkError
from wpg.hardware_bridge.keys import KeyFileError, read_key, write_key
from wpg.hardware_bridge.motions.joint_check import check_joints
from wpg.hardware_bridge.robot import JointCommand, RobotStatus
from wpg.hardware_bridge.testing.clocks import ManualClock


class Miswired(KinematicRobot):
    """An arm whose wires do to the joints what ``wiring`` (num_joints, num_joints) says."""

    def __init__(self, description, clock, wiring, lag_s=0.02) -> None:
        super().__init__(description, lag_s)
        self._clock = clock
        self._wiring = wiring
        self._start = description.limits("home_rad")

    def read(self):
        if self._clock.now() > self._time_s:
            self.advance(self._clock.now() - self._time_s)
        state = super().read()
        return dataclasses.replace(
            state, joint_pos=self._start + self._wiring @ (state.joint_pos - self._start)
        )


@pytest.fixture
def check(description):
    def check(wiring=None, **kwargs):
        clock = ManualClock()
        robot = Miswired(description, clock, np.eye(7) if wiring is None else wiring, **kwargs)
        return check_joints(robot, clock=clock), robot

    return check


class TestJointCheck:
    def test_good_arm(self, check):
        checks, robot = check()
        assert [c.joint for c in checks] == [c.moved for c in checks] == list(robot.description.joint_names)
        assert all(c.ok for c in checks)
        assert [c.scale for c in checks] == pytest.approx([1.0] * 7, abs=1e-3)
        assert robot.read().status is RobotStatus.HOLDING
        np.testing.assert_allclose(robot.read().joint_pos, robot.description.limits("home_rad"), atol=1e-4)

    @pytest.mark.parametrize("lag_s", [0.04, 0.1])
    def test_lag_is_found(self, check, lag_s):
        checks, _ = check(lag_s=lag_s)
        # The feed-forward velocity takes most of a first-order lag away while the speed is constant.
        assert all(c.ok for c in checks)
        assert all(c.lag_s <= lag_s for c in checks)

    def test_swapped_joints_stop_the_check(self, check):
        wiring = np.eye(7)[[0, 2, 1, 3, 4, 5, 6]]
        checks, _ = check(wiring)
        assert [c.ok for c in checks] == [True, False]
        assert checks[-1].fault == "panda_joint3 moves instead: the order of the joints is wrong"

    def test_wrong_sign_stops_the_check(self, check):
        checks, _ = check(np.diag([1, 1, 1, -1, 1, 1, 1.0]))
        assert len(checks) == 4
        assert checks[-1].fault == "moves the other way: the sign is wrong"
        assert checks[-1].scale == pytest.approx(-1, abs=1e-3)

    @pytest.mark.parametrize(
        ("gain", "reason"), [(0.5, "0.50 times as far"), (1.5, "1.50 times as far"), (0.0, "does not move")]
    )
    def test_wrong_scale(self, check, gain, reason):
        checks, _ = check(np.diag([1, 1, gain, 1, 1, 1, 1]))
        assert [c.ok for c in checks] == [True, True, False, True, True, True, True]
        assert reason in checks[2].fault

    def test_crosstalk(self, check):
        wiring = np.eye(7)
        wiring[4, 1] = 0.5
        checks, _ = check(wiring)
        assert checks[1].fault == "another joint moves along"

    def test_over_a_link_nothing_leaves_the_limits(self, bench):
        checks = check_joints(bench.robot, clock=bench.clock)
        assert all(c.ok for c in checks)
        assert bench.witness.commands_outside_limits == 0
        assert bench.witness.stops == {"hold": 1}

    def test_at_a_limit_it_moves_away_from_it(self, bench, description):
        bench.simulated.place(description.limits("position_max_rad"))
        bench.arm.begin(0.0)
        assert all(c.ok for c in check_joints(bench.robot, clock=bench.clock))

    def test_link_that_dies_leaves_the_arm_to_its_watchdog(self, bench):
        real_write = bench.robot.write
        written = []

        def write(command) -> JointCommand:
            written.append(command)
            bench.link.dead = len(written) > 50
            return real_write(command)

        bench.robot.write = write
        with pytest.raises(BridgeError, match=r"unplugged; .* cut the power: .*unplugged") as raised:
            check_joints(bench.robot, clock=bench.clock)
        assert isinstance(raised.value.__cause__, LinkError)
        bench.arm.advance_to(bench.clock.now() + 0.1)
        assert bench.arm.status is RobotStatus.HOLDING


RIGHTS = """
import ctypes, dataclasses, json, resource
from wpg.hardware_bridge.doctor import rights

CAP_IPC_LOCK, CAP_SYS_NICE, PR_CAPBSET_DROP = 14, 23, 24
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (2**16, 2**16))
for capability in (CAP_IPC_LOCK, CAP_SYS_NICE):
    assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
print(json.dumps([dataclasses.asdict(finding) for finding in rights()]))
"""
"""What the doctor finds as root of a container, who by default has no such rights."""


class TestDoctor:
    def test_this_machine(self):
        findings = {finding.name: finding for finding in diagnose()}
        assert {"real-time priority", "locked memory", "kernel", "governor", "wpg"} <= findings.keys()
        assert all(finding.ok or finding.fix for finding in findings.values())
        assert "p99" in findings["wake-up after 1 ms"].detail

    @pytest.mark.skipif(os.geteuid() != 0, reason="root alone has capabilities to lose")
    def test_root_of_a_container_has_no_rights_by_default(self):
        said = subprocess.run([sys.executable, "-c", RIGHTS], stdout=subprocess.PIPE, check=True).stdout
        priority, memory = json.loads(said)
        assert not priority["ok"]
        assert "start it with `--cap-add SYS_NICE` or `--ulimit rtprio=90`" in priority["fix"]
        assert not memory["ok"]
        assert "start it with `--cap-add IPC_LOCK` or `--ulimit memlock=-1`" in memory["fix"]

    def test_slow_adapter_and_sleepy_governor(self, tmp_path):
        def put(path, text):
            file = tmp_path / path
            file.parent.mkdir(parents=True)
            file.write_text(text + "\n")

        put("sys/bus/usb-serial/devices/ttyUSB0/latency_timer", "16")
        put("sys/bus/usb-serial/devices/ttyUSB1/latency_timer", "1")
        put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave")
        put("sys/kernel/realtime", "1")
        findings = {finding.name: finding for finding in diagnose(tmp_path)}
        slow = findings["latency timer of ttyUSB0"]
        assert (slow.ok, slow.detail) == (False, "16 ms")
        assert "/sys/bus/usb-serial/devices/ttyUSB0/latency_timer" in slow.fix
        assert findings["latency timer of ttyUSB1"].ok
        assert not findings["governor"].ok
        assert "performance" in findings["governor"].fix
        assert findings["kernel"].ok


class TestKeys:
    def test_written_and_read(self, tmp_path):
        path = tmp_path / "key"
        write_key(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(read_key(path)) == 32
        with pytest.raises(KeyFileError, match="File exists"):
            write_key(path)

    def test_readable_by_others(self, tmp_path):
        path = tmp_path / "key"
        write_key(path)
        path.chmod(0o640)
        with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
            read_key(path)

    @pytest.mark.parametrize("text", ["", "secret", "ab" * 16, "zz" * 32])
    def test_no_key(self, tmp_path, text):
        path = tmp_path / "key"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match="expected 64 hexadecimal digits"):
            read_key(path)

    def test_no_file(self, tmp_path):
        with pytest.raises(KeyFileError, match="No such file"):
            read_key(tmp_path / "key")

    @pytest.mark.parametrize("url", ["udp://0.0.0.0:0", "tcp://0.0.0.0:0", "udp://[::]:0"])
    def test_beyond_this_machine_only_with_a_key(self, description, url):
        with pytest.raises(BridgeError, match="without a key only this machine"):
            Emulator(KinematicRobot(description), url)
        emulator = Emulator(KinematicRobot(description), url, key=os.urandom(32))
        emulator.close()


def test_public_names_load_and_a_description_needs_neither_runtime_nor_links():
    import wpg.hardware_bridge as bridge

    for name in bridge.__all__:
        assert getattr(bridge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = bridge.nonesuch
    code = (
        "import sys; from wpg.hardware_bridge import load_description; load_description('panda');"
        "print([m for m in ('torch', 'onnxruntime', 'serial', 'mcap', 'mujoco') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
