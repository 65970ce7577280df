"""A servo bus in one thread, in the time of a clock that is moved by hand."""

import msgspec
import pytest

from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import make_device
from wpg.hardware_bridge.emulation.faults import FaultSpec, FaultyLink
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.emulation.servo_device import ServoDevice
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.robot import JointCommand
from wpg.hardware_bridge.servos.calibration import ServoCalibration
from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.servos.robot import ServoRobotConfig
from wpg.hardware_bridge.testing.clocks import ManualClock
from wpg.hardware_bridge.testing.loopback import LoopbackLink

DRIVERS = {"feetech": FeetechRobot, "dynamixel": DynamixelRobot}
MODELS = {"feetech": "sts3215", "dynamixel": "xm430-w350"}


def six_servo_arm(protocol: str) -> RobotDescription:
    """The SO-101 with a sixth joint, on servos of either make, all of them in their middle at home."""
    arm = load_description("so101")
    joints = [msgspec.structs.replace(joint, home_rad=0.0) for joint in arm.joints]
    joints.append(msgspec.structs.replace(joints[-1], name="gripper"))
    bus = msgspec.structs.replace(arm.bus, model=MODELS[protocol], servos=(1, 2, 3, 4, 5, 6), others={})
    return msgspec.structs.replace(
        arm, joints=tuple(joints), protocol=protocol, bus=bus, simulation=None, gripper=None
    )


class BusLoopback(LoopbackLink):
    """Keeps what was sent, and may echo it as half-duplex adapters do."""

    def __init__(self, *ends) -> None:
        super().__init__(*ends)
        self.echo = False
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        if self.echo:
            self._answers += data
        return super().send(data)


class ServoBench:
    """A driver on emulated servos, everything on one manual clock."""

    def __init__(
        self,
        description: RobotDescription,
        *,
        config: ServoRobotConfig | None = None,
        calibration: ServoCalibration | None = None,
        faults: FaultSpec | None = None,
        seed: int = 0,
    ) -> None:
        self.description = description
        self.clock = ManualClock(100.0)
        self.simulated = KinematicRobot(description, gripper=description.gripper is not None)
        self.simulated.place(description.limits("home_rad"), 0.04)
        self.arm = EmulatedArm(self.simulated, self.clock.now(), RAD_PER_COUNT)
        self.device = make_device(description.protocol, self.arm)
        assert isinstance(self.device, ServoDevice)
        self.link = BusLoopback(self.device, self.arm, self.clock)
        wire: Link = self.link
        if faults is not None:
            wire = FaultyLink(self.link, faults, seed=seed, clock=self.clock)
        self.robot = DRIVERS[description.protocol](
            description, lambda: wire, config, calibration=calibration, clock=self.clock
        )

    @property
    def witness(self):
        return self.arm.witness

    def servo(self, joint: str):
        """The emulated servo of a joint."""
        return self.device.servos[self.device.names[joint]]

    def stand_at(self, joint_pos) -> None:
        """Put the arm there by hand."""
        self.simulated.place(joint_pos)
        self.arm.begin(self.clock.now())

    def misread(self, joint: str, said) -> None:
        """Answer reads that begin with the position of a joint, here ``count``, with ``said(count)``."""
        servo = self.servo(joint)
        register = servo.model.present_position

        def answer(address, data):
            if address != register.address:
                return data
            return register.encode(said(register.decode(data))) + data[register.size :]

        servo.on_read = answer

    def connected(self):
        """The driver, connected and armed."""
        self.robot.connect()
        self.robot.arm()
        return self.robot

    def drive(self, joint_pos, ticks=100):
        """Send one setpoint at the servo rate until the arm is there; returns the last state."""
        for _ in range(ticks):
            self.robot.write(self.at(joint_pos))
            self.clock.advance(self.description.servo_dt_s)
            state = self.robot.read()
        return state

    def at(self, joint_pos) -> JointCommand:
        return JointCommand(joint_pos=joint_pos, joint_vel=0 * joint_pos)


@pytest.fixture(params=["feetech", "dynamixel"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_bench():
    """A bench of six servos, on either protocol."""
    return lambda protocol, **options: ServoBench(six_servo_arm(protocol), **options)


@pytest.fixture
def bench(protocol, make_bench) -> ServoBench:
    return make_bench(protocol)


@pytest.fixture(params=["so101", "omx"])
def shipped(request: pytest.FixtureRequest) -> ServoBench:
    """The arms that ship with wpg."""
    return ServoBench(load_description(request.param))


@pytest.fixture
def make_so101():
    """Benches of the SO-101."""
    return lambda **options: ServoBench(load_description("so101"), **options)


@pytest.fixture
def make_reach_policy(policy_class):
    """Makes a policy that reaches within a few centimetres of an arm's home."""

    def make(description: RobotDescription):
        policy = policy_class(description, horizon_steps=30)
        home = policy._place(description.limits("home_rad"))
        goal = msgspec.structs.replace(policy.interface.goal, low=tuple(home - 0.03), high=tuple(home + 0.03))
        policy.interface = msgspec.structs.replace(policy.interface, goal=goal)
        return policy

    return make
