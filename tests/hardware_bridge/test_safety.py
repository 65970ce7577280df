import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wpg.hardware_bridge.control.safety import SafetyConfig, SafetyFilter
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.robot import JointCommand

PANDA = load_description("panda")
LOW, HIGH = PANDA.limits("position_min_rad"), PANDA.limits("position_max_rad")
HOME = PANDA.limits("home_rad")
VELOCITY, ACCELERATION = PANDA.limits("velocity_max_rad_s"), PANDA.limits("acceleration_max_rad_s2")


class Wire:
    """Sends what the filter says, rounded as the wire rounds, and checks it against the published limits."""

    def __init__(self, dt_s: float, start) -> None:
        self.filter = SafetyFilter(PANDA, dt_s)
        self.filter.start(start)
        self.dt_s = dt_s
        self.positions = [np.asarray(start, dtype=np.float64)] * 2

    def send(self, command: JointCommand) -> None:
        inside = np.clip(command.joint_pos, LOW, HIGH).astype(np.float32).astype(np.float64)
        inside = np.where(inside > HIGH, np.nextafter(np.float32(HIGH), np.float32(-np.inf)), inside)
        inside = np.where(inside < LOW, np.nextafter(np.float32(LOW), np.float32(np.inf)), inside)
        self.filter.sent(JointCommand(joint_pos=inside, joint_vel=command.joint_vel))
        self.positions.append(inside)
        assert np.isfinite(command.joint_pos).all()
        assert (np.abs(command.joint_vel) <= VELOCITY).all()

    def check(self) -> None:
        positions = np.array(self.positions[1:])
        velocity = np.diff(positions, axis=0) / self.dt_s
        acceleration = np.diff(velocity, axis=0, prepend=np.zeros((1, len(HOME)))) / self.dt_s
        assert (positions[1:] >= LOW).all()
        assert (positions[1:] <= HIGH).all()
        assert (np.abs(velocity) <= VELOCITY).all()
        assert (np.abs(acceleration) <= ACCELERATION).all()


any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
targets = st.one_of(
    st.lists(any_float, min_size=7, max_size=7),
    st.sampled_from([LOW.tolist(), HIGH.tolist(), HOME.tolist(), (LOW - 1).tolist(), (HIGH + 1e-9).tolist()]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([0.001, 0.005, 0.02]),
    st.sampled_from([HOME, LOW, HIGH, (LOW + HIGH) / 2]),
    st.lists(st.tuples(targets, st.lists(any_float, min_size=7, max_size=7), st.integers(1, 80)), max_size=6),
)
def test_whatever_is_asked_for_the_limits_hold(dt_s, start, asked):
    wire = Wire(dt_s, start)
    for position, velocity, times in asked:
        command = JointCommand(joint_pos=np.array(position), joint_vel=np.array(velocity))
        for _ in range(times):
            wire.send(wire.filter.follow(command))
    for _ in range(10):
        wire.send(wire.filter.brake())
    wire.check()


@pytest.mark.parametrize("limit", [LOW, HIGH], ids=["low", "high"])
def test_runs_up_to_a_limit_and_stops_there(limit):
    wire = Wire(0.005, HOME)
    beyond = JointCommand(joint_pos=limit + np.sign(limit - HOME), joint_vel=np.zeros(7))
    for _ in range(1200):
        wire.send(wire.filter.follow(beyond))
    wire.check()
    np.testing.assert_allclose(wire.positions[-1], limit, atol=1e-3)
    assert wire.filter.at_rest
    assert set(wire.filter.events) == {"position_limit"}


def test_a_command_within_the_limits_passes_unchanged():
    safe = SafetyFilter(PANDA, 0.005)
    safe.start(HOME)
    command = JointCommand(joint_pos=HOME + 1e-5, joint_vel=np.full(7, 0.1))
    allowed = safe.follow(command)
    np.testing.assert_array_equal(allowed.joint_pos, command.joint_pos)
    np.testing.assert_array_equal(allowed.joint_vel, command.joint_vel)
    assert safe.events == {}


def test_a_step_is_counted_by_the_limit_it_would_break():
    safe = SafetyFilter(PANDA, 0.005)
    rest = np.zeros(7)
    safe.start(HOME)
    safe.follow(JointCommand(joint_pos=HOME + 0.1, joint_vel=rest))
    safe.follow(JointCommand(joint_pos=HOME + 0.005, joint_vel=rest))
    safe.follow(JointCommand(joint_pos=HIGH + 0.1, joint_vel=rest))
    safe.follow(JointCommand(joint_pos=np.full(7, np.nan), joint_vel=rest))
    assert safe.events == {
        "velocity_limit": 1,
        "acceleration_limit": 1,
        "position_limit": 1,
        "non_finite_command": 1,
    }


def test_braking_comes_to_rest_as_fast_as_allowed():
    wire = Wire(0.005, HOME)
    for _ in range(30):
        wire.send(wire.filter.follow(JointCommand(joint_pos=HOME + 1.0, joint_vel=np.zeros(7))))
    speed = np.abs(np.diff(wire.positions[-2:], axis=0)[0] / 0.005).max()
    ticks = 0
    while not wire.filter.at_rest:
        wire.send(wire.filter.brake())
        ticks += 1
    wire.check()
    assert speed > 1.0
    assert ticks <= np.ceil((speed / (0.95 * ACCELERATION.min())) / 0.005)


def test_start_outside_the_limits_begins_at_the_limit():
    safe = SafetyFilter(PANDA, 0.005)
    safe.start(HIGH + 0.1)
    np.testing.assert_array_equal(safe.joint_pos, HIGH)


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize(
    "name",
    [
        "stale_s",
        "source_stale_s",
        "overrun_s",
        "tracking_error_max_rad",
        "recover_after_s",
        "hold_timeout_s",
        "holds_window_s",
    ],
)
def test_configuration_is_checked(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a positive number, found {value}"):
        SafetyConfig(**{name: value})


def test_a_run_may_hold_never_but_not_less_often():
    assert SafetyConfig(holds_max=0).holds_max == 0
    with pytest.raises(ValueError, match="holds_max: expected 0 to 1000000, found -1"):
        SafetyConfig(holds_max=-1)


def test_margin_never_takes_more_than_half_a_limit():
    fast = msgspec.structs.replace(PANDA, servo_rate_hz=100_000.0, simulation=None)
    safe = SafetyFilter(fast, fast.servo_dt_s)
    assert (safe._acceleration >= ACCELERATION / 2).all()
