"""Goals on a bus, held up by the line or really sudden."""

import numpy as np
import pytest

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.goal_checker import GoalChecker
from wpg.hardware_bridge.limit_checker import LimitChecker

ARM = load_description("so101")
HOME = ARM.limits("home_rad")
DT = ARM.servo_dt_s
VELOCITY, ACCELERATION = ARM.limits("velocity_max_rad_s"), ARM.limits("acceleration_max_rad_s2")


def swing() -> np.ndarray:
    """There and back within the limits: nearly full acceleration, some way at speed, the other way round."""
    share = np.repeat((0.95, 0.0, -0.95, -0.95, 0.0, 0.95), (8, 12, 8, 8, 12, 8))[:, None]
    velocity = np.cumsum(share * ACCELERATION * DT, axis=0)
    assert (np.abs(velocity) < VELOCITY).all()
    return HOME + np.cumsum(velocity * DT, axis=0)


SENT_S = DT * np.arange(len(swing()))


def verdicts(goals, arrivals_s):
    """What is said of goals that arrive at these times, armed at zero."""
    checker = GoalChecker(LimitChecker(ARM), DT)
    checker.start(HOME)
    return [checker.check(goal, arrival_s) for goal, arrival_s in zip(goals, arrivals_s, strict=True)]


def kinds(goals, arrivals_s):
    return {kind for found in verdicts(goals, arrivals_s) for kind in found}


def test_in_time():
    assert kinds(swing(), SENT_S) == set()


@pytest.mark.parametrize("periods", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("at", range(4, 45, 5))
def test_held_up_and_let_go_at_once(at, periods):
    arrivals_s = SENT_S.copy()
    arrivals_s[at : at + periods] = SENT_S[at + periods]
    assert kinds(swing(), arrivals_s) == set()


@pytest.mark.parametrize("seed", range(20))
def test_a_line_that_holds_up_again_and_again(seed):
    rng = np.random.default_rng(seed)
    late_s = np.where(rng.random(len(SENT_S)) < 0.2, rng.uniform(0, 4 * DT, len(SENT_S)), 0.0)
    assert kinds(swing(), np.maximum.accumulate(SENT_S + late_s)) == set()


@pytest.mark.parametrize("at", range(4, 50, 5))
@pytest.mark.parametrize("periods", [1, 2, 4])
def test_left_out_by_the_bridge(at, periods):
    kept = np.delete(np.arange(len(SENT_S)), np.arange(at, at + periods))
    assert kinds(swing()[kept], SENT_S[kept]) == set()


def test_two_sent_in_one_period_are_sudden():
    arrivals_s = np.concatenate((SENT_S[:15], SENT_S[14:-1] + 0.2 * DT))
    assert "acceleration" in kinds(swing(), arrivals_s)


@pytest.mark.parametrize("gap", [0, 1, 3, 8])
def test_a_stop_from_speed_is_sudden_behind_any_gap(gap):
    """One that the gap was too short for."""
    goals = np.concatenate(
        (swing()[:15], swing()[14:15] + VELOCITY * DT * 0.5, np.repeat(swing()[14:15], 10, axis=0))
    )
    arrivals_s = DT * np.arange(len(goals))
    arrivals_s[15:] += gap * DT
    assert "acceleration" in kinds(goals, arrivals_s)


def test_a_line_that_was_behind_is_not_so_for_ever():
    goals = np.concatenate((np.repeat(HOME[None], 20, axis=0), swing()))
    sent_s = DT * np.arange(len(goals))
    sent_s[3:] += 5 * DT
    assert kinds(goals, sent_s) == set()
    sent_s[35:] -= 0.9 * DT
    assert "acceleration" in kinds(goals, sent_s)


def test_a_jump_is_seen_behind_a_gap():
    goals = np.concatenate((swing()[:15], swing()[15:] + 5 * VELOCITY * DT))
    arrivals_s = SENT_S.copy()
    arrivals_s[15:] += 2 * DT
    assert verdicts(goals, arrivals_s)[15] != ()
