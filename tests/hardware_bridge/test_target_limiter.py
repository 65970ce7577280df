"""The box that the tool must not leave, and the share of a step that an unsure policy is given."""

import math
from pathlib import Path

import numpy as np
import pytest

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig, load_safety
from wpg.hardware_bridge.control.safety import SafetyConfig, SafetyFilter
from wpg.hardware_bridge.control.target_limiter import WORKSPACE_MARGIN_M, TargetLimiter
from wpg.hardware_bridge.errors import BridgeError, DescriptionError
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.robot import JointCommand


@pytest.fixture
def home(description):
    return description.limits("home_rad")


@pytest.fixture
def tool(description):
    kinematics = ForwardKinematics(description.kinematics())
    return lambda joint_pos: kinematics.tool_position(np.asarray(joint_pos))


@pytest.fixture
def box(tool, home):
    """5 cm around the tool at home."""
    return tuple(tuple((tool(home) + side).tolist()) for side in (-0.05, 0.05))


class Outward:
    """Moves one joint on and on."""

    def __init__(self, interface, joint=0, spread=0.0):
        self.interface = interface
        self._joint = joint
        self.spread = spread

    def act(self, obs):
        action = np.zeros(7, np.float32)
        action[self._joint] = 0.1
        return Decision(action, self.spread)

    def reset(self):
        pass


def run(bench, policy, *, duration_s=3.0, **safety):
    config = LoopConfig(duration_s=duration_s, goals=1000, safety=SafetyConfig(**safety))
    return ControlLoop(bench.robot, policy, config, clock=bench.clock).run()


@pytest.fixture
def interface(make_interface):
    return make_interface(horizon_steps=10_000)


class TestWorkspace:
    @pytest.mark.parametrize("joint", range(6))
    def test_the_tool_comes_to_rest_inside(self, bench, interface, tool, box, joint):
        states = []
        read = bench.robot.read

        def remembered():
            states.append(read())
            return states[-1]

        bench.robot.read = remembered
        report = run(bench, Outward(interface, joint), workspace_m=box)
        tools = np.array([tool(state.joint_pos) for state in states])
        assert (tools > np.array(box[0]) - 1e-3).all()
        assert (tools < np.array(box[1]) + 1e-3).all()
        assert report.end_reason == "duration"
        assert report.limit_violations == 0
        assert "workspace" not in report.safety_events
        if joint < 4:
            assert report.safety_events["workspace_edge"] > 10
            at_edge = np.minimum(np.abs(tools[-1] - box[0]), np.abs(tools[-1] - box[1])).min()
            assert at_edge < 5e-3

    def test_without_a_box_it_leaves(self, bench, interface, tool, box, home):
        run(bench, Outward(interface), duration_s=1.5)
        assert np.abs(tool(bench.arm.state.joint_pos) - tool(home)).max() > 0.1

    def test_an_arm_that_starts_outside_is_not_armed(self, bench, interface, box):
        elsewhere = ((5.0, 5.0, 5.0), (6.0, 6.0, 6.0))
        with pytest.raises(BridgeError, match=r"workspace: expected the tool between \[5.0, 5.0, 5.0\]"):
            run(bench, Outward(interface), workspace_m=elsewhere)
        assert bench.witness.arms == 0

    def test_hazard_only_where_it_gets_worse(self, description, home, box):
        limiter = TargetLimiter(description, SafetyConfig(workspace_m=box))
        out = home + 0.3 * np.eye(7)[0]
        assert limiter.hazard(home, out).name == "workspace"
        assert limiter.hazard(out, home) is None
        assert limiter.hazard(out, out) is None
        assert limiter.hazard(home, home) is None

    def test_an_arm_may_stop_a_margin_outside_but_not_start_there(self, description, home, tool):
        def limiter(outside_m):
            low = tool(home) + np.array([-1.0, -1.0, outside_m])
            return TargetLimiter(description, SafetyConfig(workspace_m=(tuple(low), tuple(low + 2.0))))

        above = home.copy()
        above[1] -= 0.2
        assert tool(above)[2] > tool(home)[2] + 0.01
        assert limiter(0.99 * WORKSPACE_MARGIN_M).hazard(above, home) is None
        assert limiter(1.01 * WORKSPACE_MARGIN_M).hazard(above, home).name == "workspace"
        limiter(0.99e-3).check_start(home, 1e-3)
        with pytest.raises(BridgeError, match="workspace"):
            limiter(1.01e-3).check_start(home, 1e-3)
        with pytest.raises(BridgeError, match="workspace"):
            limiter(1e-6).check_start(home)

    def test_targets_inside_are_left_alone(self, description, home, box):
        limiter = TargetLimiter(description, SafetyConfig(workspace_m=box))
        target = home + 0.01
        np.testing.assert_array_equal(limiter.shorten(target, home, spread=9.0), target)
        assert limiter.events == {}


class TestSpread:
    def limiter(self, description):
        return TargetLimiter(description, SafetyConfig(spread_slow=0.2, spread_hold=0.4))

    def share(self, limiter, home, spread):
        return (limiter.shorten(home + 0.1, home, spread) - home)[0] / 0.1

    def test_falls_at_once_and_grows_back_slowly(self, description, home):
        limiter = self.limiter(description)
        shares = [
            self.share(limiter, home, spread) for spread in (0.1, 0.2, 0.3, 0.4, 1.0, 0.0, 0.0, 0.3, 0.0)
        ]
        np.testing.assert_allclose(shares, [1.0, 1.0, 0.5, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-9)
        assert limiter.events == {"unsure": 7}

    def test_noise_about_the_threshold_moves_the_share_little(self, description, home):
        limiter = self.limiter(description)
        rng = np.random.default_rng(0)
        shares = [self.share(limiter, home, 0.3 + 0.02 * rng.standard_normal()) for _ in range(200)]
        assert np.std(shares[20:]) < 0.1
        assert np.diff(shares[20:]).max() <= 0.1 + 1e-9

    def test_an_unsure_policy_moves_nothing_and_a_sure_one_does(self, make_bench, interface, home):
        moved = {}
        for spread in (0.0, 0.3, 0.5):
            bench = make_bench()
            report = run(
                bench, Outward(interface, spread=spread), duration_s=1.5, spread_slow=0.2, spread_hold=0.4
            )
            moved[spread] = bench.arm.state.joint_pos[0] - home[0]
            assert report.end_reason == "duration"
            assert report.limit_violations == 0
            assert ("unsure" in report.safety_events) == (spread > 0)
        assert abs(moved[0.5]) < 1e-3
        assert 0.1 * moved[0.0] < moved[0.3] < 0.8 * moved[0.0]


def test_where_braking_ends(description, home):
    dt_s = description.servo_dt_s
    safety = SafetyFilter(description, dt_s)
    safety.start(home)
    position = home.copy()
    for tick in range(20):
        position = position + 1e-4 * tick
        safety.sent(safety.follow(JointCommand(joint_pos=position, joint_vel=0 * home)))
    expected = safety.stop_pos
    assert np.abs(expected - safety.joint_pos).max() > 1e-3
    while not safety.at_rest:
        safety.sent(safety.brake())
    np.testing.assert_allclose(safety.joint_pos, expected, atol=2 * dt_s * 0.4)


class TestConfig:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"workspace_m": ((0, 0, 1), (1, 1, 0))}, "the smaller corner first"),
            ({"spread_slow": 0.1}, "both or neither"),
            ({"spread_slow": 0.2, "spread_hold": 0.1}, "the first below the second"),
            (
                {"spread_slow": math.nan, "spread_hold": 0.4},
                "spread_slow: expected a positive number, found nan",
            ),
            (
                {"spread_slow": 0.2, "spread_hold": math.nan},
                "spread_hold: expected a positive number, found nan",
            ),
        ],
    )
    def test_refused(self, options, reason):
        with pytest.raises(ValueError, match=reason):
            SafetyConfig(**options)

    @pytest.mark.parametrize("kind", [Path, str])
    def test_from_a_file(self, tmp_path, kind):
        path = tmp_path / "safety.toml"
        path.write_text("workspace_m = [[0.25, -0.4, 0.02], [0.7, 0.4, 0.8]]\nholds_max = 3\n")
        assert load_safety(kind(path)) == SafetyConfig(
            workspace_m=((0.25, -0.4, 0.02), (0.7, 0.4, 0.8)), holds_max=3
        )

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("holds = 3", "unknown 'holds': expected some of stale_s"),
            ("holds_max = 'many'", "holds_max"),
            ("holds_max = -1", "holds_max: expected 0 to 1000000, found -1"),
            ("spread_slow = 1", "both or neither"),
            ("= 3", "safety.toml"),
        ],
    )
    def test_refused_from_a_file(self, tmp_path, text, reason):
        path = tmp_path / "safety.toml"
        path.write_text(text)
        with pytest.raises(DescriptionError, match=reason):
            load_safety(path)

    def test_missing_file(self, tmp_path):
        with pytest.raises(DescriptionError, match="cannot be read"):
            load_safety(tmp_path / "none.toml")
