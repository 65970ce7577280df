"""A source behind a link: what it believes, how old it says it is, and that it comes back."""

import numpy as np
import pytest

from wpg.hardware_bridge.errors import LinkError, LinkUrlError
from wpg.hardware_bridge.links import open_link
from wpg.hardware_bridge.protocols.source import Sample, SourceFrame, Subscribe, encode_source_frame
from wpg.hardware_bridge.sources.link import SUBSCRIBE_EVERY_S, LinkSource
from wpg.hardware_bridge.sources.sender import TAKEN_S, PoseSender, SourceSender, rotation_matrix
from wpg.hardware_bridge.testing.clocks import ManualClock

KEY, PLACE = b"k" * 32, (0.5, -0.25, 0.125)


def test_what_is_sent_is_read(ends):
    reading = ends.exchange(PLACE, age_s=0.03)
    assert reading.values["object_pos"].tolist() == list(PLACE)
    assert reading.time_s == pytest.approx(5.0 - 0.03)
    assert ends.source.read() is None
    assert ends.source.drops == {}


def test_the_newest_counts(ends):
    ends.exchange(PLACE)
    for place in ((1, 1, 1), (2, 2, 2)):
        ends.sender.send({"object_pos": place})
    assert ends.source.read().values["object_pos"].tolist() == [2, 2, 2]


def test_nothing_is_sent_before_somebody_asks(make_ends):
    ends = make_ends()
    silent = SourceSender("udp://127.0.0.1:0")
    try:
        assert not silent.send({"object_pos": PLACE})
    finally:
        silent.close()
    assert ends.sender.send({"object_pos": PLACE})
    ends.advance(10.0)
    assert not ends.sender.send({"object_pos": PLACE})


def test_time_on_the_way_makes_a_reading_older(ends):
    """The clocks have nothing in common: the quickest datagram says how far they are apart."""
    ends.exchange(PLACE)
    ends.sender.send({"object_pos": PLACE}, ends.other_clock.now() - 0.01)
    ends.advance(0.15)
    reading = ends.source.read()
    assert ends.clock.now() - reading.time_s == pytest.approx(0.16, abs=1e-3)


def test_clocks_that_run_apart_do_not_age_readings(ends):
    ends.exchange(PLACE)
    for _ in range(3000):
        ends.clock.advance(0.1)
        ends.other_clock.advance(0.1 * (1 - 1e-4))
        ends.source.read()
        reading = ends.exchange(PLACE)
    assert ends.clock.now() - reading.time_s < 1e-3


def test_a_restarted_source_is_heard_again(ends):
    assert ends.exchange(PLACE)
    ends.sender = SourceSender(ends.sender.url, clock=type(ends.clock)(3.0), link=lambda: ends.there)
    ends.other_clock = ends.sender._clock
    found = []
    for _ in range(10):
        ends.advance(SUBSCRIBE_EVERY_S / 2)
        found.append(ends.exchange(PLACE) or ends.source.read())
    assert found[-1] is not None
    assert ends.clock.now() - found[-1].time_s == pytest.approx(0.0, abs=1e-6)


def test_nobody_there_is_no_error(ends):
    ends.here.cut = True
    for _ in range(5):
        ends.advance(SUBSCRIBE_EVERY_S)
        assert ends.source.read() is None


class TestForeigners:
    def test_what_was_recorded_is_worth_nothing(self, make_ends):
        first, second = make_ends(KEY), make_ends(KEY)
        first.exchange(PLACE)
        (sample,) = first.there.sent
        second.exchange((1, 1, 1))
        for _ in range(2):
            second.here.arrived.append(sample)
            assert second.source.read() is None
        assert second.source.drops == {"foreign": 2}
        (own,) = second.there.sent
        second.here.arrived.append(own)
        assert second.source.read() is None
        assert second.source.drops == {"foreign": 3}

    def test_other_keys_and_none(self, make_ends):
        ends = make_ends(KEY)
        for key in (None, b"o" * 32):
            frame = SourceFrame(ends.source._session, 9, 0, Sample(0, {"object_pos": np.zeros(3)}))
            ends.here.arrived.append(encode_source_frame(frame, key))
            assert ends.source.read() is None
        assert ends.source.drops == {"unauthenticated": 2}

    def test_a_sender_heeds_nobody_without_its_key(self, make_ends):
        ends = make_ends(None, other_key=KEY)
        assert not ends.sender.send({"object_pos": PLACE})

    def test_garbage_is_counted(self, ends):
        ends.here.arrived.extend([b"garbage\0", b"\0\1\2\0"])
        assert ends.source.read() is None
        assert ends.source.drops == {"bad": 2}

    def test_who_speaks_to_a_sender_draws_no_samples_to_himself(self):
        clock = ManualClock(1000.0)
        sender = SourceSender("udp://127.0.0.1:0", clock=clock)
        source = LinkSource(sender.url, ["object_pos"], clock=clock)
        stranger = open_link(sender.url)
        source.connect()
        source.read()  # subscribes
        assert sender.send({"object_pos": PLACE})
        subscription = encode_source_frame(SourceFrame(7, 1, 0, Subscribe()), None)
        for said in (b"garbage\0", subscription):
            stranger.send(said)
            assert sender.send({"object_pos": PLACE})
            assert stranger.receive(0.0) == b""
        assert source.read().values["object_pos"].tolist() == list(PLACE)
        # Nobody else asks any more: the other one may.
        clock.advance(TAKEN_S + 0.01)
        stranger.send(subscription)
        assert sender.send({"object_pos": PLACE})
        assert stranger.receive(5.0)
        for end in (sender, source, stranger):
            end.close()

    def test_a_flood_does_not_keep_the_loop_or_the_sender(self, ends):
        for wire in (ends.here, ends.there):
            wire.arrived.extend([b"x\0"] * 1000)
        ends.exchange(PLACE)
        assert len(ends.here.arrived) > 900
        assert len(ends.there.arrived) > 900


@pytest.mark.parametrize("make", [lambda url: LinkSource(url, ["a"]), SourceSender])
def test_where_sources_may_be(make):
    with pytest.raises(LinkUrlError, match="expected udp://HOST:PORT"):
        make("tcp://127.0.0.1:7710")
    with pytest.raises(LinkError, match="needs a key"):
        make("udp://192.0.2.1:7710")


class TestValuesThatCannotBe:
    def test_in_the_future(self, ends):
        with pytest.raises(ValueError, match="time_s: expected at most"):
            ends.sender.send({"object_pos": PLACE}, ends.other_clock.now() + 1.0)

    def test_not_finite(self, ends):
        with pytest.raises(ValueError, match="object_pos: expected finite"):
            ends.sender.send({"object_pos": [0.0, np.nan, 0.0]})


class TestPoseSender:
    @pytest.fixture
    def sent(self, monkeypatch):
        found = []
        monkeypatch.setattr(SourceSender, "send", lambda self, values, time_s: found.append(values) or True)
        return found

    def test_over_real_datagrams(self):
        sender = PoseSender("udp://127.0.0.1:0", "cup")
        source = LinkSource(sender.url, sender.terms)
        source.connect()
        try:
            reading = source.read()
            while reading is None:
                sender.send(PLACE, (1, 0, 0, 0))
                reading = source.read()
        finally:
            source.close()
            sender.close()
        assert reading.values["cup_pos"].tolist() == list(PLACE)
        assert reading.values["cup_rot6d"].tolist() == [1, 0, 0, 0, 1, 0]

    def test_velocity_is_the_slope_of_the_last_places(self, sent):
        sender = PoseSender("udp://127.0.0.1:0")
        for index in range(10):
            place = np.array([0.1, 0.0, 0.0]) * (index / 30)
            sender.send(place, np.eye(3), index / 30)
        sender.send(place, np.eye(3), 100.0)
        sender.close()
        np.testing.assert_allclose(sent[0]["object_vel"], np.zeros(3))
        np.testing.assert_allclose(sent[5]["object_vel"], [0.1, 0, 0], atol=1e-12)
        np.testing.assert_allclose(sent[-1]["object_vel"], np.zeros(3))

    def test_a_pose_that_is_refused_says_nothing_about_velocity(self):
        clock = ManualClock()
        sender = PoseSender("udp://127.0.0.1:0", clock=clock)
        for place, ahead_s in (((0.0, np.nan, 0.0), 0.0), (PLACE, 5.0)):
            with pytest.raises(ValueError, match="expected"):
                sender.send(place, np.eye(3), clock.now() + ahead_s)
        clock.advance(0.01)
        sender.send(PLACE, np.eye(3))
        sender.close()

    def test_quaternion_and_matrix_are_one_rotation(self):
        half = np.deg2rad(30) / 2
        turned = rotation_matrix([2 * np.cos(half), 0, 0, 2 * np.sin(half)])
        np.testing.assert_allclose(turned[:, 0], [np.cos(2 * half), np.sin(2 * half), 0], atol=1e-12)
        np.testing.assert_array_equal(rotation_matrix(turned), turned)

    @pytest.mark.parametrize("wrong", [(0, 0, 0, 0), np.ones((3, 3)), (1, 0, 0), 2 * np.eye(3), -np.eye(3)])
    def test_no_rotation(self, wrong):
        with pytest.raises(ValueError, match="expected a quaternion w, x, y, z or a rotation matrix"):
            rotation_matrix(wrong)
