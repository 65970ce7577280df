"""``wpg replay`` and ``wpg plot``, on logs that were made, changed, cut and confused."""

import json
import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure

from wpg.cli import main as cli
from wpg.cli.log_pictures import _axes, _counted, _joints, _tool_ways
from wpg.export.interface import ActionTerm, GoalSpec, ObservationTerm, PolicyInterface
from wpg.export.options import SamplerOptions
from wpg.export.reader import load_artifact
from wpg.export.testing import untrained_artifact
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.robot import JointCommand
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import read_log


def run(*args: object) -> int:
    return cli.main([str(arg) for arg in args])


def write_policy(path, **settings):
    """An untrained policy for a late Panda: it sees joints, targets, a tool with a history, and a goal."""
    panda = load_description("panda")
    interface = PolicyInterface(
        robot=panda.robot_spec(),
        observation=(
            ObservationTerm(name="joint_pos", size=7, source="joint_pos"),
            ObservationTerm(name="joint_target", size=14, source="joint_target", history=2),
            ObservationTerm(name="tool_pos", size=6, source="tool_pos", history=2),
            ObservationTerm(name="tool_target", size=3, source="tool_target"),
            ObservationTerm(name="goal", size=3, source="goal"),
        ),
        action=ActionTerm(
            mode="joint_position_delta",
            size=7,
            unit="rad",
            scale=(0.05,) * 7,
            offset=(0.0,) * 7,
            delta_from="target",
        ),
        control_dt_s=0.05,
        goal=GoalSpec(
            achieved="tool_pos",
            low=(0.3, -0.1, 0.3),
            high=(0.5, 0.1, 0.5),
            tolerance_m=0.02,
            horizon_steps=10,
        ),
    )
    untrained_artifact(path, interface, **settings)
    return path


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return write_policy(tmp_path_factory.mktemp("policy") / "policy.onnx")


@pytest.fixture(scope="module")
def log(policy, tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "run.mcap", policy)


@pytest.fixture(scope="module")
def log_of_hysteresis(tmp_path_factory):
    """Each decision depends on the action before."""
    folder = tmp_path_factory.mktemp("hysteresis")
    options = SamplerOptions(choice="best_with_hysteresis", switch_cost=0.5)
    return write_log(folder / "run.mcap", write_policy(folder / "policy.onnx", options=options))


def write_log(path, policy):
    """A run of 12 goals on an arm in this process, in no time."""
    from wpg.hardware_bridge.control.loop import ControlLoop
    from wpg.hardware_bridge.testing.clocks import ManualClock

    class Arm(KinematicRobot):
        def write(self, command: JointCommand) -> JointCommand:
            sent = super().write(command)
            self.advance(self.description.servo_dt_s)
            return sent

    artifact = load_artifact(policy)
    kept = {"policy.onnx": policy.read_bytes()}
    panda = load_description("panda")
    metadata = {
        "robot": "panda",
        "servo_rate_hz": repr(panda.servo_rate_hz),
        "policy_sha256": artifact.digest,
        "noise_seed": "7",
        "particles": "3",
    }
    recorder = RunLog(path, metadata, kept)
    loop = ControlLoop(
        Arm(panda),
        SampledPolicy(artifact, 7, 3),
        LoopConfig(goals=12),
        clock=ManualClock(),
        recorder=recorder,
    )
    assert loop.run().goals == 12
    recorder.close()
    assert recorder.dropped == 0
    return path


def changed(log, path, change):
    """The log with ``change(topic, message)`` applied to every message; None leaves it out."""
    from mcap.reader import make_reader
    from mcap.writer import Writer

    with open(log, "rb") as source, open(path, "wb") as file:
        reader = make_reader(source)
        writer = Writer(file)
        writer.start()
        channels = {}
        for schema, channel, message in reader.iter_messages():
            content = change(channel.topic, json.loads(message.data))
            if channel.topic not in channels:
                identifier = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.topic] = writer.register_channel(channel.topic, "json", identifier)
            if content is not None:
                data = json.dumps(content).encode()
                writer.add_message(channels[channel.topic], message.log_time, data, message.publish_time)
        for record in reader.iter_metadata():
            writer.add_metadata(record.name, record.metadata)
        for record in reader.iter_attachments():
            writer.add_attachment(
                record.create_time, record.log_time, record.name, record.media_type, record.data
            )
        writer.finish()
    return path


class TestReplay:
    def test_comes_out_bit_for_bit(self, log, tmp_path, capsys):
        assert run("replay", log, "--json", tmp_path / "replay.json") == 0
        found = json.loads((tmp_path / "replay.json").read_text())
        assert (found["decisions"], found["equal"], found["unequal"]) == (120, 120, 0)
        assert (found["observations_equal"], found["observations_unequal"]) == (120, 0)
        assert found["first_difference"] is None
        assert found["ticks"] > 1200
        assert "120 equal, 0 unequal" in capsys.readouterr().out
        assert run("replay", log, "--json", "/dev/full") == 1  # a full disk does not hide the result
        assert "120 equal, 0 unequal" in capsys.readouterr().out

    @pytest.mark.parametrize(("quantity", "column"), [("action", "action"), ("observation", "obs")])
    def test_one_bit_that_differs_is_found(self, quantity, column, log, tmp_path, capsys):
        def change(topic, message):
            if topic == "/decision" and message["number"] == 60:
                message[column][2] = float(np.nextafter(np.float32(message[column][2]), np.float32(9)))
            return message

        path = changed(log, tmp_path / "changed.mcap", change)
        assert run("replay", path, "--json", tmp_path / "replay.json") == 1
        first = json.loads((tmp_path / "replay.json").read_text())["first_difference"]
        assert (first["decision"], first["quantity"], first["index"]) == (60, quantity, 2)
        assert f"decision 60 at {first['time_s']:.3f} s: {quantity}[2]" in capsys.readouterr().err

    def test_a_state_that_differs_is_found(self, log, tmp_path, capsys):
        def change(topic, message):
            if topic == "/state" and message["sequence"] > 700:
                message["joint_pos_rad"][3] = math.nextafter(message["joint_pos_rad"][3], 9) + 1e-6
            return message

        assert run("replay", changed(log, tmp_path / "changed.mcap", change)) == 1
        assert "observation[3]" in capsys.readouterr().err

    def test_what_the_log_lost_is_passed_over(self, log, tmp_path):
        def change(topic, message):
            lost = topic == "/decision" and 30 <= message["number"] < 40
            return None if lost else message

        path = changed(log, tmp_path / "gap.mcap", change)
        assert run("replay", path, "--json", tmp_path / "replay.json") == 0
        found = json.loads((tmp_path / "replay.json").read_text())
        assert (found["equal"], found["missing"]) == (110, 10)

    def test_only_a_choice_that_looks_back_on_a_lost_action_is_unchecked(self, log_of_hysteresis, tmp_path):
        # A goal has ten steps, and its first looks back on nothing.
        lost = {0, *range(5, 120, 10), 39, *range(62, 65)}

        def change(topic, message):
            return None if topic == "/decision" and message["number"] in lost else message

        path = changed(log_of_hysteresis, tmp_path / "gaps.mcap", change)
        assert run("replay", path, "--json", tmp_path / "replay.json") == 0
        found = json.loads((tmp_path / "replay.json").read_text())
        unchecked = len({1, *range(6, 120, 10)})
        assert (found["actions_unchecked"], found["missing"]) == (unchecked, len(lost))
        assert found["equal"] == 120 - len(lost) - unchecked

    def test_a_difference_causes_no_other(self, log_of_hysteresis, tmp_path):
        """Each decision is compared given what the log says was done before."""

        def change(topic, message):
            if topic == "/decision" and message["number"] == 60:
                message["obs"] = [-value for value in message["obs"]]
            return message

        path = changed(log_of_hysteresis, tmp_path / "changed.mcap", change)
        assert run("replay", path, "--json", tmp_path / "replay.json") == 1
        found = json.loads((tmp_path / "replay.json").read_text())
        assert (found["equal"], found["unequal"], found["actions_unchecked"]) == (119, 1, 0)

    def test_a_decision_whose_own_tick_the_log_lost_is_not_held_against_the_one_before(self, log, tmp_path):
        def change(topic, message):
            if topic == "/decision":
                change.loses = message["number"] == 50
            lost = change.loses and topic in ("/state", "/timing")
            change.loses = change.loses and topic != "/timing"
            return None if lost else message

        change.loses = False
        path = changed(log, tmp_path / "gap.mcap", change)
        assert run("replay", path, "--json", tmp_path / "replay.json") == 0
        found = json.loads((tmp_path / "replay.json").read_text())
        assert (found["observations_equal"], found["observations_unchecked"]) == (119, 1)

    def test_ticks_that_the_log_lost_leave_observations_unchecked(self, log, tmp_path):
        def change(topic, message):
            lost = topic in ("/state", "/timing") and change.ticks > 900
            change.ticks += topic == "/timing"
            return None if lost else message

        change.ticks = 0
        path = changed(log, tmp_path / "gap.mcap", change)
        assert run("replay", path, "--json", tmp_path / "replay.json") == 0
        found = json.loads((tmp_path / "replay.json").read_text())
        assert found["equal"] == 120
        assert found["observations_unchecked"] > 20

    def test_with_the_artifact_itself(self, log, policy):
        assert run("replay", log, "--policy", policy) == 0

    def test_another_artifact(self, log, tmp_path, capsys):
        other = write_policy(tmp_path / "other.onnx", seed=1)
        assert run("replay", log, "--policy", other) == 1
        assert "another artifact made this log: expected SHA-256" in capsys.readouterr().err

    def test_truncated(self, log, tmp_path, capsys):
        data = log.read_bytes()
        path = tmp_path / "cut.mcap"
        path.write_bytes(data[: len(data) * 2 // 3])
        assert run("replay", path) == 0
        assert "ends in the middle" in capsys.readouterr().out

    def test_without_decisions(self, log, tmp_path, capsys):
        path = changed(log, tmp_path / "none.mcap", lambda topic, m: None if topic == "/decision" else m)
        assert run("replay", path) == 1
        assert "holds no decisions" in capsys.readouterr().err

    def test_a_log_that_keeps_no_artifact(self, tmp_path, capsys):
        RunLog(tmp_path / "bare.mcap", {"robot": "panda"}, {}).close()
        assert run("replay", tmp_path / "bare.mcap") == 1
        assert "keeps no policy.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_log_is_read_up_to_the_damage(log, tmp_path, seed):
    data = bytearray(log.read_bytes())
    where = np.random.default_rng(seed).integers(len(data) // 2, len(data))
    data[where] ^= 0xFF
    path = tmp_path / "damaged.mcap"
    path.write_bytes(data)
    assert len(read_log(path).command) > 0


class TestPlot:
    def test_one_picture(self, log, tmp_path):
        from PIL import Image

        assert run("plot", log, "--out", tmp_path / "run.png") == 0
        with Image.open(tmp_path / "run.png") as picture:
            assert picture.width > 1000
            assert len(picture.convert("L").getcolors()) > 50

    def test_what_the_report_counts_is_named(self, log):
        """Stale reads have no event each: the title says how many there were."""
        recording = read_log(log)
        report = b'{"safety_events": {"stale_read": 37, "rearmed": 1}}'
        counted = replace(recording, attachments=recording.attachments | {"report.json": report})
        assert _counted(counted, ["rearmed"]) == "stale_read (37)"
        assert _counted(replace(recording, attachments={}), []) == ""

    def test_the_tool_is_drawn_where_the_joints_were(self, log):
        """Also between goals, where nothing is decided; no line crosses from one way to the other."""
        recording = read_log(log)
        described = {"description.json": msgspec.json.encode(load_description("panda"))}
        recording = replace(recording, attachments=recording.attachments | described)
        ways = {label: places for label, _, places in _tool_ways(recording)}
        decided = ways["policy"]
        assert decided.shape == (len(recording.state), 3)
        shown = ~np.isnan(decided[:, 0])
        for label, places in ways.items():
            if label != "policy":
                assert (~np.isnan(places[:, 0]) ^ shown).all()
        distance = np.linalg.norm(decided[shown][:, None] - recording.decision["tool_m"][None], axis=2)
        assert distance.min(axis=0).max() < 0.01

    def test_a_gripper_is_drawn_behind_the_joints(self, log):
        recording = read_log(log)
        assert [axis.name for axis in _axes(recording)] == [f"joint {number}" for number in range(1, 8)]
        opened = {
            name: replace(series, columns=series.columns | {"gripper_m": np.full((len(series), 1), 0.04)})
            for name, series in (("command", recording.command), ("state", recording.state))
        }
        described = {"description.json": msgspec.json.encode(load_description("panda"))}
        gripper = _axes(replace(recording, **opened, attachments=described))[-1]
        assert (gripper.name, gripper.limits) == ("gripper, m", (0.0, 0.08))
        assert (gripper.commanded == 0.04).all()
        assert len(gripper.measured) == len(recording.state)
        figure = Figure(layout="constrained")
        _joints(figure, replace(recording, **opened, attachments=described))
        figure.canvas.draw()
        (legend,) = figure.legends
        assert not any(legend.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes)

    def test_a_folder_of_panels(self, log, tmp_path, capsys):
        assert run("plot", log, "--out", tmp_path / "pictures") == 0
        names = {path.name for path in (tmp_path / "pictures").iterdir()}
        assert names == {"joints.png", "tool.png", "timing.png", "events.png"}

    def test_without_states_and_decisions(self, log, tmp_path):
        path = changed(
            log, tmp_path / "bare.mcap", lambda t, m: None if t in ("/state", "/decision", "/event") else m
        )
        assert run("plot", path, "--out", tmp_path / "bare.png") == 0

    def test_truncated(self, log, tmp_path, capsys):
        path = tmp_path / "cut.mcap"
        path.write_bytes(log.read_bytes()[:-60_000])
        assert run("plot", path) == 0
        assert (tmp_path / "cut.png").exists()
        assert "ends in the middle" in capsys.readouterr().out

    def test_no_picture_of_another_kind(self, log, tmp_path, capsys):
        assert run("plot", log, "--out", tmp_path / "run.svg") == 2
        assert "expected a .png file or a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["replay", "plot"])
class TestWhatIsNoLog:
    def test_missing(self, command, tmp_path, capsys):
        assert run(command, tmp_path / "none.mcap") == 1
        assert "none.mcap: No such file" in capsys.readouterr().err

    def test_another_file(self, command, tmp_path, capsys):
        (tmp_path / "text.mcap").write_text("no log at all")
        assert run(command, tmp_path / "text.mcap") == 1
        assert "expected a run log of wpg" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == [tmp_path / "text.mcap"]

    def test_a_log_of_something_else(self, command, tmp_path, capsys):
        from mcap.writer import Writer

        with open(tmp_path / "other.mcap", "wb") as file:
            writer = Writer(file)
            writer.start()
            channel = writer.register_channel("/camera", "json", 0)
            writer.add_message(channel, 0, b"{}", 0)
            writer.finish()
        assert run(command, tmp_path / "other.mcap") == 1
        assert "expected a run log of wpg" in capsys.readouterr().err
