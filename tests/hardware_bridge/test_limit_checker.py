import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.limit_checker import LimitChecker

PANDA = load_description("panda")
HOME = PANDA.limits("home_rad")
REST = np.zeros(7)
DT = PANDA.servo_dt_s
VELOCITY, ACCELERATION = PANDA.limits("velocity_max_rad_s"), PANDA.limits("acceleration_max_rad_s2")


@pytest.fixture
def checker() -> LimitChecker:
    checker = LimitChecker(PANDA)
    checker.start(HOME)
    return checker


def follow(checker, positions, ticks):
    verdicts = []
    for position, tick in zip(positions, ticks, strict=True):
        verdicts.append(checker.check(position, REST, tick))
        checker.accept(position, tick)
    return verdicts


def ramp(fraction: float, num: int):
    """Constant acceleration at a fraction of the limit."""
    steps = np.arange(1, num + 1)[:, None]
    return HOME + fraction * ACCELERATION * DT**2 * steps * (steps + 1) / 2


def test_acceleration_just_inside_and_just_outside(checker):
    assert set(follow(checker, ramp(0.999, 10), range(1, 11))) == {()}
    checker.start(HOME)
    assert follow(checker, ramp(1.001, 10), range(1, 11))[2:] == [("acceleration",)] * 8


def test_a_sudden_stop_is_acceleration(checker):
    positions = ramp(0.999, 10)
    assert set(follow(checker, positions, range(1, 11))) == {()}
    assert checker.check(positions[-1], REST, 11) == ("acceleration",)


def test_lost_commands_are_no_acceleration(checker):
    positions = ramp(0.999, 20)
    arrived = [0, 1, 4, 5, 9, 10, 19]
    verdicts = follow(checker, positions[arrived], [i + 1 for i in arrived])
    assert set(verdicts) == {()}


def test_lost_commands_hide_no_acceleration(checker):
    positions = ramp(1.5, 20)
    arrived = [0, 1, 4, 5, 9, 10]
    verdicts = follow(checker, positions[arrived], [i + 1 for i in arrived])
    assert "acceleration" in verdicts[-1]


def test_velocity(checker):
    assert checker.check(HOME + 0.999 * VELOCITY * DT, REST, 1) == ()
    assert checker.check(HOME + 1.001 * VELOCITY * DT, REST, 1) == ("velocity",)
    assert checker.check(HOME, 1.001 * VELOCITY, 1) == ("velocity",)


def test_numbers_that_jump_buy_no_way(checker):
    """The watchdog waits for 50 ms, ten periods, and one more is granted."""
    checker.accept(HOME, 1)
    assert checker.check(HOME + 10.99 * VELOCITY * DT, REST, 1000)[0] == "acceleration"
    assert checker.check(HOME + 11.01 * VELOCITY * DT, REST, 1000)[0] == "velocity"
    checker.accept(HOME, 1000)
    assert checker.last_periods == 11


def test_an_arm_that_stands_at_no_number_follows_nothing(checker):
    checker.start(np.full(7, np.nan))
    assert checker.check(HOME, REST, 1) == ("velocity",)
    checker.accept(HOME, 1)
    assert checker.check(HOME, REST, 2) == ("acceleration",)


def test_the_way_to_the_first_command_is_no_acceleration(checker):
    """An arm does not hold exactly where it measures: it may go on from there, stand or turn round."""
    first = HOME + 0.9 * VELOCITY * DT
    for second in (0.0, 0.9, -0.9 * ACCELERATION * DT / VELOCITY):
        checker.start(HOME)
        checker.accept(first, 1)
        assert checker.check(first + second * VELOCITY * DT, REST, 2) == ()
    assert checker.check(first - 1.1 * ACCELERATION * DT**2, REST, 2) == ("acceleration",)
    checker.accept(first, 2)
    assert checker.check(first + 0.9 * VELOCITY * DT, REST, 3) == ("acceleration",)


def test_rounding_on_the_wire_is_no_speed():
    resolution_rad = 0.5 * (ACCELERATION * DT**2).min()
    rounded = np.round(ramp(0.999, 12) / resolution_rad) * resolution_rad
    checker, strict = LimitChecker(PANDA, resolution_rad), LimitChecker(PANDA)
    for one in (checker, strict):
        one.start(HOME)
    assert set(follow(checker, rounded, range(1, 13))) == {()}
    assert ("acceleration",) in follow(strict, rounded, range(1, 13))
    checker.start(HOME)
    assert checker.check(HOME + VELOCITY * DT + 0.9 * resolution_rad, REST, 1) == ()
    assert checker.check(HOME + VELOCITY * DT + 1.1 * resolution_rad, REST, 1) == ("velocity",)


def test_a_gripper_may_measure_outside_its_range_but_not_be_sent_there():
    checker = LimitChecker(PANDA, gripper=True)
    opening_max_m = PANDA.gripper.opening_max_m
    rest = np.zeros(8)
    checker.start(np.append(HOME, opening_max_m + 0.05))
    assert checker.check(np.append(HOME, opening_max_m), rest, 1) == ()
    assert "position" in checker.check(np.append(HOME, opening_max_m + 1e-6), rest, 1)


def test_position(checker):
    checker.start(PANDA.limits("position_max_rad"))
    assert checker.check(PANDA.limits("position_max_rad"), REST, 1) == ()
    assert checker.check(PANDA.limits("position_max_rad") + 1e-6, REST, 1) == ("position",)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(checker, bad):
    assert checker.check(np.where(np.arange(7) == 3, bad, HOME), REST, 1) == ("not_finite",)
    assert checker.check(HOME, np.where(np.arange(7) == 3, bad, REST), 1) == ("not_finite",)


def test_a_command_takes_the_place_of_the_other_of_its_period(checker):
    checker.accept(HOME, 4)
    checker.accept(HOME + 0.5 * ACCELERATION * DT**2, 5)
    assert checker.check(HOME + 2 * VELOCITY * DT, REST, 5) == ("velocity", "acceleration")
    assert checker.check(HOME + 0.9 * ACCELERATION * DT**2, REST, 5) == ()
    assert checker.check(HOME + 0.5 * ACCELERATION * DT**2, REST, 5) == ()
