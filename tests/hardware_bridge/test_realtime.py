"""Real-time rights: taken as far as they are granted, and given back whatever the kernel permits."""

import gc
import os
import subprocess
import sys

import pytest

from wpg.hardware_bridge.realtime import RealtimeConfig, realtime, unpin


def test_realtime_is_taken_and_given_back():
    before = os.sched_getscheduler(0), os.sched_getaffinity(0)
    with realtime(RealtimeConfig(priority=1, cpu=max(before[1]))) as warnings:
        inside = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        assert inside == os.SCHED_FIFO or any("no real-time priority" in text for text in warnings)
        assert os.sched_getaffinity(0) == {max(before[1])}
        assert not gc.isenabled()
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0)) == before
    assert gc.isenabled()


ORDINARY_USER = """
import ctypes, os
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime

CAP_SYS_NICE, PR_GET_TIMERSLACK = 23, 30
libc = ctypes.CDLL(None, use_errno=True)

def drop():
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for index in (0, 1):
        sets[index] &= ~(1 << CAP_SYS_NICE)
    assert libc.capset(header, sets) == 0

def found():
    flags = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    return flags, os.sched_getaffinity(0), libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)

before = found()
with realtime(RealtimeConfig(priority=1, cpu=max(before[1]))) as warnings:
    granted = not any("real-time priority" in text for text in warnings)
    drop()
    if granted:
        assert os.sched_getscheduler(0) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except PermissionError:
            pass
        else:
            raise AssertionError("the capability is still there")
assert found() == before, (found(), before)
with realtime(RealtimeConfig(priority=None)):
    pass
assert found() == before, (found(), before)
"""
"""Leaves a block as a user with an rtprio limit does: SCHED_FIFO is granted, clearing its flag is not."""


def test_realtime_is_given_back_without_the_right_to_clear_its_flag():
    subprocess.run([sys.executable, "-c", ORDINARY_USER], check=True)


def test_realtime_leaves_the_core_that_the_caller_stays_on():
    cores = sorted(os.sched_getaffinity(0))
    with realtime(RealtimeConfig(priority=None, cpu=cores[0])):
        with realtime(RealtimeConfig(priority=None, cpu=cores[-1])) as warnings:
            assert os.sched_getaffinity(0) == {cores[-1]}
            assert warnings == ()
        unpin()
        assert os.sched_getaffinity(0) >= set(cores)


def test_cores_that_were_chosen_are_kept():
    cores = os.sched_getaffinity(0)
    unpin()
    assert os.sched_getaffinity(0) == cores or len(cores) == 1


@pytest.mark.parametrize("cpu", [4095, 2**40])
def test_realtime_on_a_core_that_is_not_there(cpu):
    with realtime(RealtimeConfig(priority=None, cpu=cpu)) as warnings:
        assert any(f"not pinned to core {cpu}" in text for text in warnings)


def test_realtime_settings_that_cannot_be():
    with pytest.raises(ValueError, match="priority"):
        RealtimeConfig(priority=100)
    with pytest.raises(ValueError, match="cpu"):
        RealtimeConfig(cpu=-1)
