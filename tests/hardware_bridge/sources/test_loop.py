"""The control loop with a term from outside: refused, held, resumed, judged, put back, replayed."""

import msgspec
import numpy as np
import pytest

from wpg.export.errors import ContractError
from wpg.hardware_bridge.control.checks import check_interface
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import BridgeError, StaleStateError
from wpg.hardware_bridge.replay import rebuilt_observations
from wpg.hardware_bridge.robot import RobotStatus
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import read_log
from wpg.hardware_bridge.sources.local import LocalSource
from wpg.hardware_bridge.testing.memory_log import MemoryLog

MIDDLE = np.array([0.42, 0.0, 0.42])
CAMERA_EVERY = 6
"""Ticks of 5 ms."""


class Camera(LocalSource):
    """Sees a thing at every sixth tick that it is asked, unless it is covered."""

    def __init__(self, clock, terms=("object_pos",)) -> None:
        super().__init__(terms, name="camera", clock=clock)
        self.covered = False
        self.place = MIDDLE.copy()
        self.looks = 0

    def read(self):
        self.looks += 1
        if self.looks % CAMERA_EVERY == 1 and not self.covered:
            self.send(dict.fromkeys(self.terms, self.place))
        return super().read()


@pytest.fixture
def camera(bench):
    return Camera(bench.clock)


@pytest.fixture
def push(run, pushing, camera):
    def push(config=None, **kwargs):
        kwargs = {"policy": pushing, "sources": [camera], **kwargs}
        return run(config or LoopConfig(goals=3, seed=1), **kwargs)

    return push


class TestBeforeTorque:
    def test_without_a_source_the_option_is_named(self, run, pushing, bench):
        expected = "object_pos without a source: give --source object_pos=udp://HOST:PORT"
        with pytest.raises(ContractError, match=expected):
            run(policy=pushing)
        assert bench.witness.arms == 0

    def test_a_source_that_nobody_needs(self, run, pushing, reach_policy, camera, bench):
        with pytest.raises(
            ContractError, match=r"source door: the policy sees no such term .* needs object_pos"
        ):
            run(policy=pushing, sources=[camera, Camera(bench.clock, ["door"])])
        with pytest.raises(ContractError, match=r"source object_pos: .* from outside, it needs none"):
            run(sources=[camera])
        assert bench.witness.arms == 0

    def test_two_sources_of_one_term(self, pushing, description):
        with pytest.raises(ContractError, match="object_pos: expected one source, found 2"):
            check_interface(pushing.interface, description, ["object_pos", "object_pos"])

    def test_a_source_that_says_nothing(self, push, camera, bench):
        camera.covered = True
        with pytest.raises(StaleStateError, match="source camera: no object_pos within 2 s; nothing: is the"):
            push()
        assert bench.witness.arms == 0

    def test_the_arm_is_looked_at_once_the_source_speaks(self, push, camera, bench, description):
        real_connect = camera.connect

        def connect():
            bench.simulated.place(description.limits("position_max_rad") + 0.1)
            real_connect()

        camera.connect = connect
        with pytest.raises(BridgeError, match="panda_joint1 is at"):
            push()
        assert bench.witness.arms == 0

    @pytest.mark.parametrize(
        ("place", "cause"), [((0.4, 0.0), "wrong_size"), ((0.4, np.nan, 0.0), "not_finite")]
    )
    def test_a_source_that_says_nonsense(self, push, camera, place, cause):
        camera.place = np.array(place)
        with pytest.raises(StaleStateError, match=f"only what was refused: {cause} "):
            push()


class TestFed:
    def test_success_is_where_the_object_is(self, push, camera, pushing):
        report = push()
        assert (report.goals, report.successes) == (3, 0)
        for result in report.goal_results:
            assert result.error_m == pytest.approx(np.linalg.norm(MIDDLE - result.goal))
            assert result.error_m >= 0.05
        (source,) = report.sources
        assert (source.name, source.terms, source.drops) == ("camera", ("object_pos",), {})
        assert source.age_us.max <= 30e3
        assert report.safety_events == {}

    def test_an_object_that_comes_to_the_goal(self, push, camera, trace, pushing):
        real_act = pushing.act

        def act(obs):
            camera.place = obs[-3:].astype(np.float64)
            return real_act(obs)

        pushing.act = act
        assert push().successes == 3

    def test_history_of_a_term_from_outside(self, push, make_pushing, camera, trace):
        pushing = make_pushing(history=3)
        real_act = pushing.act

        def act(obs):
            camera.place = camera.place + np.array([0.001, 0.0, 0.0])
            return real_act(obs)

        pushing.act = act
        push(policy=pushing)
        obs = trace.decisions[8]["obs"][7:16].reshape(3, 3)
        assert obs[0, 0] > obs[1, 0] > obs[2, 0]


class TestStale:
    def test_silence_holds_and_goes_on(self, push, camera, trace, bench):
        def cover(covered):
            return lambda: setattr(camera, "covered", covered)

        trace.at_tick = {100: cover(True), 200: cover(False)}
        report = push()
        assert report.safety_events == {"stale_source": 1}
        assert report.end_reason == "goals_done"
        assert bench.witness.holds == 0
        (event,) = [event for event in trace.events if event["name"] == "stale_source"]
        assert event["detail"].startswith("the reading of object_pos from camera is 20")
        assert trace.names[3:7] == ["running", "stale_source", "holding", "running"]
        phases = [record["phase"] for record in trace.ticks]
        # 200 ms after the last reading, and until it is back for 200 ms.
        assert phases.index("holding") == pytest.approx(100 + 0.2 / 0.005, abs=CAMERA_EVERY + 2)
        assert phases.index("running", 150) == pytest.approx(200 + 0.2 / 0.005, abs=CAMERA_EVERY + 2)
        assert len(trace.decisions) == 30

    def test_no_step_begins_with_an_old_reading(self, push, camera, trace):
        trace.at_tick = {1: lambda: setattr(camera, "covered", True)}
        report = push(LoopConfig(goals=1, settle_s=0.5))
        assert report.end_reason == "stale_source"
        assert trace.names[3:6] == ["running", "stale_source", "holding"]
        assert trace.decisions == []

    @pytest.fixture
    def far_from_home(self, bench, pushing, description):
        spec = msgspec.structs.replace(pushing.interface.goal, start_spread_rad=0.05)
        pushing.interface = msgspec.structs.replace(pushing.interface, goal=spec)
        bench.simulated.place(description.limits("home_rad") - 0.6)

    @pytest.mark.usefixtures("far_from_home")
    def test_a_hold_on_the_way_home_does_without(self, push, camera, trace, bench):
        trace.at_tick = {
            30: lambda: setattr(camera, "covered", True),
            100: lambda: bench.clock.advance(0.045),
            300: lambda: setattr(camera, "covered", False),
        }
        report = push(LoopConfig(goals=1, safety=SafetyConfig(hold_timeout_s=0.7)))
        assert report.end_reason == "goals_done"
        assert trace.names[3:8] == ["homing", "overrun", "holding", "homing", "running"]
        assert [record["phase"] for record in trace.ticks].index("running") > 300

    def test_lasting_silence_ends_the_run(self, push, camera, trace, bench):
        trace.at_tick = {100: lambda: setattr(camera, "covered", True)}
        report = push()
        assert report.end_reason == "stale_source"
        assert report.message.startswith("held for 2 s: the reading of object_pos from camera is 2")
        assert report.final_phase == "parked"
        assert bench.arm.status is RobotStatus.HOLDING

    def test_readings_of_another_clock_are_no_readings(self, push, camera, trace, bench):
        def future():
            camera.covered = True
            real_read = camera.read

            def read():
                camera.send({"object_pos": MIDDLE}, bench.clock.now() + 100.0)
                return real_read()

            camera.read = read

        trace.at_tick = {100: future}
        report = push()
        assert report.end_reason == "stale_source"
        assert report.sources[0].drops["from_the_future"] > 100


class TestPutBack:
    AWAY = np.array([0.8, 0.3, 0.42])

    def test_nobody_there_ends_the_run(self, push, camera, trace, bench):
        trace.at_tick = {60: lambda: setattr(camera, "place", self.AWAY)}
        report = push()
        assert (report.goals, report.end_reason) == (1, "out_of_reach")
        assert report.message.startswith(
            "object_pos is at 0.80 0.30 0.42 m, expected from 0.30 -0.20 0.30 to"
        )
        assert report.final_phase == "parked"

    def test_the_arm_waits_out_of_the_way(self, push, camera, trace, description):
        asked = []

        def put_back(trouble):
            asked.append(trouble)
            if len(asked) == 40:
                camera.place = MIDDLE.copy()
            return len(asked) > 300

        trace.at_tick = {60: lambda: setattr(camera, "place", self.AWAY)}
        report = push(put_back=put_back)
        assert (report.goals, report.end_reason, report.put_backs) == (3, "goals_done", 1)
        assert asked[0].startswith("object_pos is at")
        assert asked[-1] == ""
        waiting = [record for record in trace.ticks if record["phase"] == "waiting"]
        assert 300 <= len(waiting) <= 302
        np.testing.assert_allclose(
            waiting[-1]["command"].joint_pos, description.limits("home_rad"), atol=2e-3
        )
        assert trace.names[3:7] == ["running", "homing", "waiting", "running"]

    def test_a_hold_is_no_leave_to_go_on(self, push, camera, trace, bench):
        asked = []

        def put_back(trouble):
            asked.append(trouble)
            if len(asked) == 40:
                camera.place = MIDDLE.copy()
            if len(asked) == 100:
                bench.clock.advance(0.05)
            return len(asked) > 300

        trace.at_tick = {60: lambda: setattr(camera, "place", self.AWAY)}
        report = push(put_back=put_back)
        assert (report.end_reason, report.put_backs) == ("goals_done", 1)
        assert report.safety_events["overrun"] == 1
        behind = trace.names[trace.names.index("holding") :]
        assert behind.index("waiting") < behind.index("running")
        assert len(asked) > 300

    def test_an_object_that_is_back_before_the_arm_is_waited_for(self, push, camera, trace):
        asked = []

        def put_back(trouble):
            asked.append(trouble)
            return True

        def back():
            assert trace.names[-1] == "homing"
            camera.place = MIDDLE.copy()

        trace.at_tick = {60: lambda: setattr(camera, "place", self.AWAY), 130: back}
        report = push(put_back=put_back)
        assert (report.goals, report.put_backs) == (3, 1)
        assert trace.names[3:7] == ["running", "homing", "waiting", "running"]
        assert asked[0].startswith("object_pos is at 0.80")
        waiting = [record for record in trace.ticks if record["phase"] == "waiting"]
        assert len(waiting) >= 0.5 / 0.005

    def test_an_object_in_somebodys_hand_is_not_back(self, push, camera, trace):
        rng = np.random.default_rng(0)

        def carry(trouble):
            if len(trace.ticks) < 800:
                camera.place = MIDDLE + rng.normal(scale=0.02, size=3)
            return True

        trace.at_tick = {60: lambda: setattr(camera, "place", self.AWAY)}
        push(put_back=carry)
        phases = [record["phase"] for record in trace.ticks]
        assert phases.index("running", phases.index("waiting")) >= 800 + 0.5 / 0.005 - CAMERA_EVERY


class TestLog:
    def test_observations_come_out_of_the_log_bit_for_bit(self, bench, make_pushing, camera, tmp_path):
        rng = np.random.default_rng(0)
        pushing = make_pushing()
        real_act = pushing.act
        seen = []

        def act(obs):
            seen.append(obs.copy())
            camera.place = MIDDLE + rng.uniform(-0.02, 0.02, 3)
            return real_act(obs)

        pushing.act = act
        log = RunLog(tmp_path / "run.mcap", {"servo_rate_hz": repr(bench.description.servo_rate_hz)}, {})
        ControlLoop(
            bench.robot,
            pushing,
            LoopConfig(goals=3),
            clock=bench.clock,
            sources=[camera],
            recorder=log,
        ).run()
        log.close()
        recording = read_log(tmp_path / "run.mcap")
        rebuilt = list(rebuilt_observations(recording, pushing.interface))
        np.testing.assert_array_equal(rebuilt, seen)
        place = recording.decision["achieved_m"][5]
        np.testing.assert_array_equal(place.astype(np.float32), seen[5][7:10])
        error = np.linalg.norm(place - recording.decision["goal_m"][5])
        assert recording.decision["goal_error_m"][5] == pytest.approx(error)
        # A reading that the log lost leaves the term unknown, not wrong.
        numbers = recording.sources["object_pos"]["number"]
        numbers[10:] += 1
        unknown = [np.isnan(obs).any() for obs in rebuilt_observations(recording, pushing.interface)]
        assert 1 <= sum(unknown) <= 2

    def test_in_memory_as_in_a_file(self, push, camera):
        log = MemoryLog()
        push(recorder=log)
        source = log.recording().sources["object_pos"]
        assert source["value"].shape[1] == 3
        assert source["number"].tolist() == list(range(len(source)))
