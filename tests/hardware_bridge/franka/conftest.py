"""A Franka arm in one thread, in the time of a clock that is moved by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from wpg.hardware_bridge.franka.arm import FciArm
from wpg.hardware_bridge.franka.connection import FciConnection
from wpg.hardware_bridge.franka.limits import inside_fci
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.native.device import NativeDevice
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.robot import JointCommand
from wpg.hardware_bridge.testing.clocks import ManualClock

FAKE = Path(__file__).with_name("fake_fci.py")
spec = importlib.util.spec_from_file_location("fake_fci", FAKE)
fake_fci = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake_fci)


class CycleLink(Link):
    """Joins driver and device; every millisecond that is waited for is one of the robot's."""

    def __init__(self, device: NativeDevice, arm: FciArm, clock: ManualClock) -> None:
        super().__init__("fci://fake")
        self._device, self._arm, self._clock = device, arm, clock
        self._waiting = b""

    def send(self, data: bytes) -> bool:
        self._waiting += self._device.feed(data, self._clock.now())
        return True

    def receive(self, timeout_s: float) -> bytes:
        data, self._waiting = self._waiting, b""
        if not data:
            self._clock.advance(timeout_s)
        return data

    def close(self) -> None:
        pass


class CycleClock(ManualClock):
    """Moves the arm as it moves itself."""

    arm: FciArm | None = None

    def advance(self, duration_s: float) -> None:
        self.sleep_until(self.now() + duration_s)

    def sleep_until(self, deadline_s: float) -> None:
        while self.now() < deadline_s - 1e-9:
            super().advance(min(1e-3, deadline_s - self.now()))
            if self.arm is not None and self.now() - self.last_s >= 1e-3 - 1e-9:
                self.last_s = self.now()
                self.arm.cycle(self.now())

    last_s = 0.0


class FrankaBench:
    """The driver's side of the native frames on an arm behind a fake interface."""

    def __init__(self, description, streams="velocity", **world) -> None:
        self.description = inside_fci(description)
        self.fci = fake_fci.FakeFci(self.description)
        for name, value in world.items():
            setattr(self.fci, name, value)
        self.clock = CycleClock()
        self.connection = FciConnection("fake", self.fci, self.clock, streams)
        self.arm = FciArm(self.connection, self.description, 0.0)
        self.clock.arm = self.arm
        self.link = CycleLink(NativeDevice(self.arm), self.arm, self.clock)
        self.robot = NativeRobot(self.description, lambda: self.link, clock=self.clock)

    def arm_robot(self) -> NativeRobot:
        """Connect and arm."""
        self.robot.connect()
        self.robot.arm()
        return self.robot

    def drive(self, periods, speed=0.2):
        """Command the first joint at a steady speed; returns where it was commanded last."""
        pos = self.robot.read().joint_pos.copy()
        for _ in range(periods):
            pos[0] += speed * 0.005
            self.robot.write(JointCommand(joint_pos=pos.copy(), joint_vel=np.zeros(7)))
            self.clock.advance(0.005)
        return pos

    @property
    def sent(self):
        """What the interface was sent, (N, 7)."""
        return np.array([message.values for message in self.fci.sent])


@pytest.fixture
def modes():
    return fake_fci.RobotMode


@pytest.fixture
def fake_gateway():
    return FAKE


@pytest.fixture
def make_bench(description):
    return lambda *args, **kwargs: FrankaBench(description, *args, **kwargs)


@pytest.fixture
def bench(make_bench):
    return make_bench()
