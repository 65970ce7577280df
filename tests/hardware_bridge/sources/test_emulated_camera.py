import numpy as np
import pytest

from wpg.hardware_bridge.emulation.camera import CameraSpec, EmulatedCamera, parse_camera
from wpg.hardware_bridge.emulation.faults import FaultSpecError
from wpg.hardware_bridge.testing.clocks import ManualClock

PLACE, ROTATION = np.array([0.5, 0.1, 0.02]), np.eye(3)


class Sender:
    def __init__(self, clock) -> None:
        self.clock = clock
        self.sent = []

    def send(self, place, rotation, time_s):
        self.sent.append((self.clock.now(), time_s, place, rotation))

    def close(self):
        pass


def seen(spec: str, *, duration_s: float = 10.0, seed: int = 0):
    """What is sent: when, when it was taken, place and rotation."""
    clock = ManualClock()
    sender = Sender(clock)
    camera = EmulatedCamera(
        lambda: (PLACE.copy(), ROTATION), sender, parse_camera(spec), seed=seed, now_s=0.0
    )
    while clock.now() < duration_s:
        camera.advance_to(clock.now())
        clock.advance(0.001)
    return sender.sent


def test_rate_and_delay():
    sent = seen("rate_hz=50,delay_ms=30")
    assert len(sent) == pytest.approx(500, abs=3)
    late = [now_s - taken_s for now_s, taken_s, *_ in sent]
    np.testing.assert_allclose(late, 0.03, atol=1.5e-3)
    np.testing.assert_array_equal([place for *_, place, _ in sent], np.tile(PLACE, (len(sent), 1)))


def test_noise():
    sent = seen("rate_hz=200,noise_mm=2,noise_deg=1", duration_s=20.0)
    places = np.array([place for *_, place, _ in sent])
    np.testing.assert_allclose(places.std(axis=0), 2e-3, rtol=0.06)
    turns = np.array([rotation[[2, 0, 1], [1, 2, 0]] for *_, rotation in sent])
    np.testing.assert_allclose(np.rad2deg(turns.std(axis=0)), 1.0, rtol=0.06)


def test_pictures_without_an_object():
    sent = seen("drop=0.25", duration_s=30.0)
    assert len(sent) == pytest.approx(0.75 * 900, rel=0.06)
    assert [row[1] for row in sent] == [row[1] for row in seen("drop=0.25", duration_s=30.0)]
    assert [row[1] for row in sent] != [row[1] for row in seen("drop=0.25", duration_s=30.0, seed=1)]


def test_covered():
    taken = np.array([row[1] for row in seen("hidden_after_s=4,hidden_for_s=2")])
    gap = int(np.argmax(np.diff(taken)))
    assert taken[gap] == pytest.approx(4.0, abs=0.04)
    assert taken[gap + 1] == pytest.approx(6.0, abs=0.04)


def test_pictures_that_there_was_no_time_for_are_not_made_up_for():
    clock = ManualClock()
    sender = Sender(clock)
    camera = EmulatedCamera(lambda: (PLACE, ROTATION), sender, CameraSpec(delay_ms=0), seed=0, now_s=0.0)
    for now_s in (0.0, 5.0, 5.001):
        camera.advance_to(now_s)
    assert [row[1] for row in sender.sent] == [0.0, 5.0]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("zoom=2", "camera 'zoom': expected one of rate_hz, "),
        ("rate_hz=fast", "camera rate_hz: expected a number, found 'fast'"),
        ("delay_ms=-1", "camera delay_ms: expected 0 or more, found -1.0"),
        ("rate_hz=0", "camera rate_hz: expected more than 0, found 0.0"),
        ("drop=1.5", "camera drop: expected a probability, found 1.5"),
    ],
)
def test_specifications_that_cannot_be(spec, line):
    with pytest.raises(FaultSpecError, match=line):
        parse_camera(spec)
