"""The emulator as a client meets it: real links, real time, another process."""

import json
import os
import signal
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest

from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.emulator import Emulator
from wpg.hardware_bridge.emulation.faults import FaultSpec
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import BridgeError, LinkError, ProtocolError, StaleStateError
from wpg.hardware_bridge.links import open_link
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import JointCommand, RobotStatus, StopMode
from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot
from wpg.hardware_bridge.servos.robot import ServoRobotConfig
from wpg.hardware_bridge.session import open_robot

# Patient with a machine that has other things to do: nothing here measures time.
PATIENT = LoopConfig(goals=1, settle_s=0.02, safety=SafetyConfig(stale_s=1.0, overrun_s=1.0, holds_max=100))

SERVE = """
import signal, sys, msgspec
from wpg.hardware_bridge import Emulator, KinematicRobot, load_description
emulator = Emulator(KinematicRobot(load_description("panda")), sys.argv[1])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
print(msgspec.json.encode(emulator.hello()).decode(), flush=True)
emulator.serve(lambda: bool(stopped))
emulator.close()
print(msgspec.json.encode(emulator.witness).decode(), flush=True)
"""

COMMAND_UNTIL_KILLED = """
import sys, time
from wpg.hardware_bridge import JointCommand, NativeRobot, load_description
description = load_description("panda")
robot = NativeRobot(description, sys.argv[1])
robot.connect()
robot.arm()
home = description.limits("home_rad")
print("armed", flush=True)
while True:
    robot.write(JointCommand(joint_pos=home, joint_vel=0 * home))
    time.sleep(0.005)
"""


def patient(description, url):
    """A driver of either protocol that waits as long as it takes."""
    if description.bus is None:
        return patient_robot(description, url)
    return FeetechRobot(description, url, ServoRobotConfig(margin_s=2.0))


def patient_robot(description, url) -> NativeRobot:
    return NativeRobot(description, url, read_timeout_s=2.0)


@pytest.fixture(params=["pty:", "udp://127.0.0.1:0", "tcp://127.0.0.1:0"], ids=["pty", "udp", "tcp"])
def process(request):
    """An emulator in another process: its first line, and a function that ends it and gives its last."""
    serving = subprocess.Popen([sys.executable, "-c", SERVE, request.param], stdout=subprocess.PIPE)
    hello = json.loads(serving.stdout.readline())

    def end() -> dict:
        serving.send_signal(signal.SIGTERM)
        output, _ = serving.communicate(timeout=60)
        assert serving.returncode == 0
        return json.loads(output)

    yield hello, end, serving
    if serving.poll() is None:
        serving.kill()
    serving.communicate()


class TestOtherProcess:
    def test_policy_reaches_its_goal_and_the_witness_agrees(self, process, description, make_policy):
        hello, end, _ = process
        assert (hello["robot"], hello["protocol"]) == ("panda", "native")
        robot = patient_robot(description, hello["link"])
        report = ControlLoop(robot, make_policy(horizon_steps=30), PATIENT).run()
        assert (report.end_reason, report.final_phase) == ("goals_done", "parked")
        assert report.successes == 1
        witness = end()
        assert witness["commands_outside_limits"] == report.limit_violations == 0
        assert witness["frames_bad"] == witness["frames_unauthenticated"] == 0
        assert witness["stops"] == {"hold": 1}
        assert (np.array(witness["joint_pos_min"]) >= description.limits("position_min_rad")).all()
        assert (np.array(witness["joint_pos_max"]) <= description.limits("position_max_rad")).all()

    def test_killed_client_is_noticed_within_a_tenth_of_a_second(self, process, description):
        hello, end, _ = process
        client = subprocess.Popen(
            [sys.executable, "-c", COMMAND_UNTIL_KILLED, hello["link"]], stdout=subprocess.PIPE
        )
        assert client.stdout.readline() == b"armed\n"
        client.kill()
        client.communicate()
        # The next client finds the arm held, and may go on.
        robot = patient_robot(description, hello["link"])
        robot.connect()
        while robot.read().status is RobotStatus.ARMED:
            pass
        assert robot.read().status is RobotStatus.HOLDING
        robot.arm()
        robot.stop(StopMode.HOLD)
        robot.close()
        witness = end()
        assert witness["holds"] >= 1
        assert witness["arms"] == 2
        # On the device's own clock: the watchdog's 50 ms and what the machine took to wake it.
        assert witness["hold_delay_ms_max"] >= 50.0
        assert witness["hold_delay_ms_max"] - witness["late_ms_max"] <= 100.0

    def test_robot_that_dies_ends_the_run_with_what_to_do(self, process, description, make_policy):
        hello, _, serving = process
        policy = make_policy(horizon_steps=10_000)
        real_act = policy.act

        def act(obs):
            if policy.num_calls == 5:
                serving.kill()
                serving.wait()
            return real_act(obs)

        policy.act = act
        # A dead process says nothing over UDP until its port refuses: the hold ends either way.
        robot = NativeRobot(description, hello["link"])
        report = ControlLoop(robot, policy, LoopConfig(goals=1)).run()
        assert report.end_reason == "link_dead"
        assert "is the robot (or its emulator) still running" in report.message
        assert report.final_phase == "fault"
        assert not report.completed


class TestClientsComeAndGo:
    def test_reconnect(self, emulator, description):
        for _ in range(5):
            robot = patient_robot(description, emulator.url)
            robot.connect()
            robot.arm()
            assert robot.read().status is RobotStatus.ARMED
            robot.stop(StopMode.HOLD)
            robot.close()
        assert emulator.witness.arms == 5

    def test_garbage_before_and_between(self, emulator, description):
        rng = np.random.default_rng(1)

        def open_noisily():
            link = open_link(emulator.url)
            for _ in range(20):
                link.send(rng.bytes(200))
            return link

        for _ in range(5):
            robot = NativeRobot(description, open_noisily, read_timeout_s=2.0)
            connect_when_free(robot)
            assert robot.read().status is RobotStatus.IDLE
            robot.close()
        assert emulator.witness.frames_bad > 0
        assert emulator.witness.commands_ok == 0

    def test_robot_of_another_description(self, emulator, description):
        other = msgspec.structs.replace(description, name="ur5e")
        with pytest.raises(ProtocolError, match="expected ur5e, found panda"):
            open_robot(other, emulator.url).connect()

    def test_hello_says_where(self, emulator):
        hello = emulator.hello()
        assert hello == {"link": emulator.url, "robot": "panda", "protocol": "native", "pid": os.getpid()}


def connect_when_free(robot: NativeRobot) -> None:
    """A stream's server may still be taking leave of its last client."""
    for _ in range(50):
        try:
            robot.connect()
            return
        except LinkError:
            continue
    robot.connect()


def serve_in_thread(emulator):
    stop = threading.Event()
    thread = threading.Thread(target=emulator.serve, args=(stop.is_set,))
    thread.start()

    def end():
        stop.set()
        thread.join()
        emulator.close()

    return end


class TestKey:
    def test_only_holders_of_the_key_get_through(self, description):
        emulator = Emulator(KinematicRobot(description), "udp://127.0.0.1:0", key=b"secret")
        end = serve_in_thread(emulator)
        try:
            robot = NativeRobot(description, emulator.url, key=b"secret", read_timeout_s=2.0)
            robot.connect()
            robot.arm()
            for key, advice in (
                (None, "give it by --key FILE"),
                (b"guess", "with another key does not answer"),
            ):
                stranger = NativeRobot(description, emulator.url, key=key, connect_timeout_s=0.3)
                with pytest.raises(LinkError, match=f"nobody answers .* {advice}"):
                    stranger.connect()
            robot.close()
        finally:
            end()
        assert emulator.witness.frames_unauthenticated >= 4
        assert emulator.witness.arms == 1

    def test_key_for_a_robot_without_one(self, description):
        emulator = Emulator(KinematicRobot(description), "udp://127.0.0.1:0")
        end = serve_in_thread(emulator)
        try:
            robot = NativeRobot(description, emulator.url, key=b"secret", connect_timeout_s=0.3)
            with pytest.raises(ProtocolError, match=r"found \d+ without: the robot has another key, or none"):
                robot.connect()
        finally:
            end()


@pytest.mark.parametrize("name", ["panda", "so101"])
def test_answers_go_to_whoever_asked(name):
    """On a servo bus they take their time, during which a stranger speaks."""
    arm = load_description(name)
    emulator = Emulator(KinematicRobot(arm), "udp://127.0.0.1:0", protocol=arm.protocol)
    end = serve_in_thread(emulator)
    stranger = open_link(emulator.url)
    try:
        robot = patient(arm, emulator.url)
        robot.connect()
        for _ in range(50):
            stranger.send(b"noise\0")
            assert robot.read().status is RobotStatus.IDLE
        robot.close()
        assert stranger.receive(0.0) == b""
    finally:
        end()
        stranger.close()


def test_faults_between_emulator_and_link(description, make_policy):
    spec = FaultSpec(drop=0.02, corrupt=0.02, duplicate=0.02)
    emulator = Emulator(
        KinematicRobot(description),
        "udp://127.0.0.1:0",
        faults=spec,
        seed=4,
    )
    end = serve_in_thread(emulator)
    try:
        robot = NativeRobot(description, emulator.url, read_timeout_s=0.01)
        report = ControlLoop(robot, make_policy(horizon_steps=20), PATIENT).run()
    finally:
        end()
    assert report.end_reason == "goals_done"
    assert emulator.witness.frames_bad > 0
    assert emulator.witness.commands_outside_limits == report.limit_violations == 0


def test_unknown_protocol(description):
    with pytest.raises(BridgeError, match="no emulator of protocol 'modbus'"):
        Emulator(KinematicRobot(description), "udp://127.0.0.1:0", protocol="modbus")


def test_pty_closed_and_opened_again_by_the_client(description):
    emulator = Emulator(KinematicRobot(description), "pty:")
    end = serve_in_thread(emulator)
    try:
        for _ in range(20):
            link = open_link(emulator.url)
            link.send(b"half a frame")
            link.close()
        robot = patient_robot(description, emulator.url)
        robot.connect()
        robot.arm()
        home = description.limits("home_rad")
        sent = robot.write(JointCommand(joint_pos=home, joint_vel=0 * home))
        np.testing.assert_allclose(sent.joint_pos, home, atol=1e-6)
        robot.close()
    finally:
        end()


def test_close_releases_the_address(description):
    emulator = Emulator(KinematicRobot(description), "tcp://127.0.0.1:0")
    emulator.close()
    emulator.close()
    again = Emulator(KinematicRobot(description), emulator.url)
    with pytest.raises((LinkError, StaleStateError)):
        Emulator(KinematicRobot(description), emulator.url)
    again.close()
