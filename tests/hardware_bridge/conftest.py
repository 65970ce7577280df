import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from wpg.export.interface import ActionTerm, GoalSpec, ObservationTerm, PolicyInterface
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import Emulator
from wpg.hardware_bridge.emulation.faults import FaultSpec, FaultyLink
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.links import Link
from wpg.hardware_bridge.native.device import NativeDevice
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.policy import Decision
from wpg.hardware_bridge.testing.clocks import ManualClock
from wpg.hardware_bridge.testing.loopback import LoopbackLink


@pytest.fixture(scope="session")
def description() -> RobotDescription:
    return load_description("panda")


class Bench:
    """A driver on an emulated arm, everything on one manual clock."""

    def __init__(
        self,
        description: RobotDescription,
        faults: FaultSpec | None = None,
        seed: int = 0,
        *,
        gripper: bool = False,
    ) -> None:
        self.description = description
        self.clock = ManualClock()
        self.simulated = KinematicRobot(description, gripper=gripper)
        self.arm = EmulatedArm(self.simulated, self.clock.now())
        self.device = NativeDevice(self.arm)
        self.link = LoopbackLink(self.device, self.arm, self.clock)
        wire: Link = self.link
        if faults is not None:
            wire = FaultyLink(self.link, faults, seed=seed, clock=self.clock)
        self.robot = NativeRobot(description, lambda: wire, clock=self.clock)

    @property
    def witness(self):
        return self.arm.witness


@pytest.fixture
def bench(description: RobotDescription) -> Bench:
    return Bench(description)


@pytest.fixture
def make_bench(description: RobotDescription) -> Callable[..., Bench]:
    return lambda *args, **kwargs: Bench(description, *args, **kwargs)


def reach_interface(description: RobotDescription, *, horizon_steps: int = 40) -> PolicyInterface:
    n = description.num_joints
    return PolicyInterface(
        robot=description.robot_spec(),
        observation=(
            ObservationTerm(name="joint_pos", size=n, source="joint_pos"),
            ObservationTerm(name="tool_pos", size=3, source="tool_pos"),
            ObservationTerm(name="goal", size=3, source="goal"),
        ),
        action=ActionTerm(
            mode="joint_position_delta", size=n, unit="rad", scale=(0.1,) * n, offset=(0.0,) * n
        ),
        control_dt_s=0.05,
        goal=GoalSpec(
            achieved="tool_pos",
            low=(0.35, -0.15, 0.35),
            high=(0.5, 0.15, 0.5),
            tolerance_m=0.02,
            horizon_steps=horizon_steps,
        ),
    )


class ReachPolicy:
    """Reaches by the pseudo-inverse of the Jacobian."""

    def __init__(self, description: RobotDescription, *, horizon_steps: int = 40) -> None:
        self._num_joints = description.num_joints
        self._tool = KinematicRobot(description)
        self.interface = reach_interface(description, horizon_steps=horizon_steps)
        self.num_calls = 0

    def act(self, obs) -> Decision:
        self.num_calls += 1
        joint_pos = obs[: self._num_joints].astype(np.float64)
        jacobian = np.stack([self._place(joint_pos + d) for d in 1e-5 * np.eye(self._num_joints)], axis=1)
        jacobian = (jacobian - self._place(joint_pos)[:, None]) / 1e-5
        step = 0.5 * np.linalg.pinv(jacobian, rcond=0.05) @ (obs[-3:] - obs[-6:-3])
        return Decision(np.clip(step, -0.1, 0.1).astype(np.float32), 0.01)

    def reset(self) -> None:
        pass

    def _place(self, joint_pos):
        self._tool.reset(joint_pos)
        return self._tool.tool_position()


@pytest.fixture
def reach_policy(description: RobotDescription) -> ReachPolicy:
    return ReachPolicy(description)


@pytest.fixture(scope="session")
def make_interface(description: RobotDescription) -> Callable[..., PolicyInterface]:
    return lambda **kwargs: reach_interface(description, **kwargs)


@pytest.fixture
def make_policy(description: RobotDescription) -> Callable[..., ReachPolicy]:
    return lambda **kwargs: ReachPolicy(description, **kwargs)


@pytest.fixture(scope="session")
def policy_class() -> type[ReachPolicy]:
    return ReachPolicy


@contextmanager
def served(description: RobotDescription, url: str) -> Iterator[Emulator]:
    """An emulator that lives in a thread."""
    emulator = Emulator(KinematicRobot(description), url)
    stop = threading.Event()
    thread = threading.Thread(target=emulator.serve, args=(stop.is_set,))
    thread.start()
    try:
        yield emulator
    finally:
        stop.set()
        thread.join()
        emulator.close()


@pytest.fixture(params=["pty:", "udp://127.0.0.1:0", "tcp://127.0.0.1:0"], ids=["pty", "udp", "tcp"])
def emulator(request: pytest.FixtureRequest, description: RobotDescription) -> Iterator[Emulator]:
    with served(description, request.param) as emulator:
        yield emulator


@pytest.fixture
def block(bench):
    """Keeps the first joint where it is, whatever it is commanded."""

    def block() -> None:
        simulated, advance = bench.simulated, bench.simulated.advance
        stands = simulated._pos[0]

        def blocked(duration_s):
            advance(duration_s)
            simulated._pos[0], simulated._vel[0] = stands, 0.0

        simulated.advance = blocked

    return block


class Trace:
    """A recorder that keeps everything, and may cause something at a tick."""

    def __init__(self) -> None:
        self.ticks = []
        self.decisions = []
        self.readings = []
        self.events = []
        self.at_tick = {}

    def tick(self, **record) -> None:
        self.ticks.append(record)
        if action := self.at_tick.get(len(self.ticks)):
            action()

    def decision(self, **record) -> None:
        self.decisions.append(record | {"obs": record["obs"].copy()})

    def source(self, **record) -> None:
        self.readings.append(record)

    def event(self, **record) -> None:
        self.events.append(record)

    @property
    def names(self) -> list[str]:
        return [event["name"] for event in self.events]

    def commands(self):
        return np.array([record["command"].joint_pos for record in self.ticks])


@pytest.fixture
def trace() -> Trace:
    return Trace()


@pytest.fixture
def run(bench, reach_policy, trace):
    def run(config=None, *, policy=reach_policy, on=bench, **kwargs):
        config = config or LoopConfig(duration_s=3.0)
        kwargs = {"recorder": trace, **kwargs}
        loop = ControlLoop(on.robot, policy, config, clock=on.clock, **kwargs)
        report = loop.run()
        assert report.limit_violations == 0
        assert on.witness.commands_outside_limits == 0
        return report

    return run
