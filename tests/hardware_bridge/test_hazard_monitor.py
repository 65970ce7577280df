"""When each hazard begins, and when holds are too many; the loop's tests show what is done about them."""

from types import SimpleNamespace

import numpy as np
import pytest

from wpg.hardware_bridge.control.hazard_monitor import HazardMonitor, HoldCounter
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import RobotState, RobotStatus

SAFETY = SafetyConfig(
    stale_s=0.02, overrun_s=0.04, tracking_error_max_rad=0.5, source_stale_s=0.2, hold_timeout_s=2.0
)
HAZARD = Hazard("stale_state", "the last state is old")


class Scene:
    """What a monitor watches, all well at first."""

    def __init__(self, dt_s=0.005) -> None:
        self.reader = SimpleNamespace(age_s=lambda: self.age_s)
        self.timer = SimpleNamespace(missed_in_a_row=0, last_lateness_s=0.0)
        self.motion = SimpleNamespace(dt_s=dt_s, joint_pos=np.zeros(2), stop_pos=np.zeros(2))
        self.modes = SimpleNamespace(stop_elsewhere=lambda state: None)
        self.limiter = SimpleNamespace(hazard=lambda joint_pos, stop_pos: None)
        self.feed = SimpleNamespace(hazard=lambda stale_s: self.source)
        self.source = None
        self.age_s = 0.0
        self.state = self.standing(0.0)

    def standing(self, joint_pos, status=RobotStatus.ARMED):
        zero = np.zeros(2)
        return RobotState(
            joint_pos=np.array([0.0, joint_pos]),
            joint_vel=zero,
            joint_torque=zero,
            time_s=0.0,
            sequence=1,
            status=status,
        )

    def hazard(self, *, commanded=True, fed=True):
        parts = {name: getattr(self, name) for name in ("reader", "timer", "motion", "modes", "limiter")}
        monitor = HazardMonitor(SAFETY, **parts, feed=self.feed)
        found = monitor.interruption(self.state) or monitor.hazard(self.state, commanded=commanded, fed=fed)
        return found and found.name

    def over(self, place, below, above):
        """The hazards at both values of what ``place`` names."""
        part, name = place.rsplit(".", 1) if "." in place else ("", place)
        found = []
        for value in (below, above):
            setattr(getattr(self, part) if part else self, name, value)
            found.append(self.hazard())
        return found


@pytest.mark.parametrize(
    ("dt_s", "place", "below", "above", "name"),
    [
        (0.005, "age_s", 0.02, 0.021, "stale_state"),
        (0.02, "age_s", 0.06, 0.061, "stale_state"),
        (0.005, "age_s", 0.0, np.nan, "stale_state"),
        (0.005, "timer.missed_in_a_row", 7, 8, "overrun"),
        (0.02, "timer.missed_in_a_row", 2, 3, "overrun"),
        (0.005, "timer.last_lateness_s", 2.0, 2.1, "suspended"),
    ],
)
def test_time_that_passes_is_a_hazard_from_here_on(dt_s, place, below, above, name):
    """By seconds, and by three servo periods where these are long."""
    assert Scene(dt_s).over(place, below, above) == [None, name]


@pytest.mark.parametrize("side", [-1, 1])
def test_a_joint_that_is_far_from_its_setpoint_or_nowhere(side):
    scene = Scene()
    near, far, nowhere = (scene.standing(side * place) for place in (0.499, 0.501, np.nan))
    assert scene.over("state", near, far) == [None, "tracking_error"]
    assert scene.over("state", near, nowhere) == [None, "tracking_error"]
    assert scene.hazard(commanded=False) is None


def test_a_robot_that_does_not_follow():
    scene = Scene()
    scene.state = scene.standing(0.0, RobotStatus.HOLDING)
    assert (scene.hazard(), scene.hazard(commanded=False)) == ("device_hold", None)
    scene.state = scene.standing(0.0, RobotStatus.FAULT)
    assert (scene.hazard(), scene.hazard(commanded=False)) == ("device_fault", "device_fault")


def test_a_source_matters_only_to_a_policy_that_needs_it():
    scene = Scene()
    scene.source = Hazard("stale_source", "the camera is silent")
    assert (scene.hazard(), scene.hazard(fed=False)) == ("stale_source", None)


def test_a_cause_comes_before_its_consequences():
    scene = Scene()
    scene.limiter.hazard = lambda joint_pos, stop_pos: Hazard("workspace", "")
    assert (scene.hazard(), scene.hazard(commanded=False)) == ("workspace", None)
    scene.source = Hazard("stale_source", "")
    assert scene.hazard() == "stale_source"
    scene.state = scene.standing(1.0)
    assert scene.hazard() == "tracking_error"
    scene.age_s = 1.0
    assert scene.hazard() == "stale_state"
    scene.timer.missed_in_a_row = 100
    assert scene.hazard() == "overrun"
    scene.modes.stop_elsewhere = lambda state: Hazard("device_stop", "")
    assert scene.hazard() == "device_stop"


def test_holds_are_too_many_only_within_the_window():
    counter = HoldCounter(SafetyConfig(holds_max=2, holds_window_s=60.0))
    assert [counter.begin(HAZARD, at_s) for at_s in (0.0, 31.0, 61.0)] == ["", "", ""]
    assert counter.begin(HAZARD, 91.0) == "held 2 times within 60 s: the last state is old"


def test_a_hazard_that_persists_puts_off_going_on():
    counter = HoldCounter(SafetyConfig(recover_after_s=0.25))
    counter.begin(HAZARD, 1.0)
    assert [counter.is_well(at_s) for at_s in (1.0, 1.24, 1.25)] == [False, False, True]
    other = Hazard("device_hold", "")
    counter.persists(other, 1.5)
    assert [counter.is_well(at_s) for at_s in (1.74, 1.75)] == [False, True]
    assert counter.cause == other
