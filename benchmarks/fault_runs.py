"""One run of the fault campaign in one process, on a simulated clock."""

import dataclasses
from typing import Any

import msgspec
import numpy as np

from wpg.export.interface import ActionTerm, ObservationTerm, PolicyInterface
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.emulation.arm import EmulatedArm
from wpg.hardware_bridge.emulation.emulator import make_device
from wpg.hardware_bridge.emulation.faults import FaultSpec, FaultyDevice, FaultyLink
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.native.robot import NativeRobot
from wpg.hardware_bridge.policy import Decision, Floats
from wpg.hardware_bridge.robot import JointCommand, RobotState
from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot
from wpg.hardware_bridge.servos.models import RAD_PER_COUNT
from wpg.hardware_bridge.testing.clocks import EmulationClock
from wpg.hardware_bridge.testing.loopback import LoopbackLink

ARMS = {"native": "panda", "feetech": "so101", "dynamixel": "omx"}
PROTOCOLS = tuple(ARMS)
DRIVERS = {"native": NativeRobot, "feetech": FeetechRobot, "dynamixel": DynamixelRobot}
DURATION_S = 2.5
DEADLINE_S = 30.0
"""A run that has not ended by then, in its simulated time, counts as hanging."""
START_S = 100.0
ARMED_S = 0.3
WATCHED_TICKS = 10
"""After a hold."""


class HangError(Exception):
    """The run has not ended in its time."""


class LimitedClock(EmulationClock):
    """Simulated clock that ends a run which would never end."""

    def sleep_until(self, deadline_s: float) -> None:
        """Move on, unless there is no time left."""
        if self.now() > START_S + DEADLINE_S:
            raise HangError
        super().sleep_until(deadline_s)


class WildPolicy:
    """Policy of full-size steps in random directions; it may also delay the loop, or fail."""

    def __init__(
        self, description: RobotDescription, seed: int, clock: EmulationClock, *, stalls: bool
    ) -> None:
        n = description.num_joints
        self._clock, self._stalls = clock, stalls
        self._generator = np.random.default_rng(seed)
        self._drift = self._generator.choice((-1.0, 1.0), n)
        self.interface = PolicyInterface(
            robot=description.robot_spec(),
            observation=(ObservationTerm(name="joint_pos", size=n, source="joint_pos"),),
            action=ActionTerm(
                mode="joint_position_delta", size=n, unit="rad", scale=(0.3,) * n, offset=(0.0,) * n
            ),
            control_dt_s=0.05,
        )

    def act(self, obs: Floats) -> Decision:
        """Keep a direction for a while, then change to another."""
        random = self._generator
        if random.random() < 0.1:
            self._drift = random.choice((-1.0, 1.0), len(self._drift))
        action = 0.3 * self._drift * random.random(len(self._drift))
        if self._stalls and random.random() < 0.1:
            self._clock.sleep_until(self._clock.now() + random.uniform(0.005, 0.3))
        if self._stalls and random.random() < 0.05:
            action[random.integers(len(action))] = random.choice((np.nan, np.inf))
        return Decision(action.astype(np.float32))

    def reset(self) -> None:
        """Do nothing: the policy has no memory."""


def _at(random: np.random.Generator) -> float:
    return float(random.uniform(0.3, DURATION_S - 0.5))


def _mixture(random: np.random.Generator) -> FaultSpec:
    names = ("drop", "corrupt", "truncate", "duplicate", "garbage", "delay", "reorder", "partial")
    return FaultSpec(**{name: float(random.uniform(0, 0.03)) for name in names})


KINDS = {
    "none": lambda random: FaultSpec(),
    "drop": lambda random: FaultSpec(drop=float(random.uniform(0.01, 0.4))),
    "corrupt": lambda random: FaultSpec(corrupt=float(random.uniform(0.01, 0.4))),
    "truncate": lambda random: FaultSpec(truncate=float(random.uniform(0.01, 0.3))),
    "duplicate": lambda random: FaultSpec(duplicate=float(random.uniform(0.05, 0.5))),
    "reorder": lambda random: FaultSpec(reorder=float(random.uniform(0.01, 0.3))),
    "delay": lambda random: FaultSpec(
        delay=float(random.uniform(0.01, 0.3)), delay_ms=float(random.uniform(1, 80))
    ),
    "partial writes": lambda random: FaultSpec(partial=float(random.uniform(0.05, 0.5))),
    "garbage": lambda random: FaultSpec(garbage=float(random.uniform(0.01, 0.4))),
    "all of these": _mixture,
    "dead servo": lambda random: FaultSpec(dead_servo=1, dead_after_s=_at(random)),
    "brown-out": lambda random: FaultSpec(brownout_after_s=_at(random)),
    "unplug and replug": lambda random: FaultSpec(
        unplug_after_s=_at(random), unplug_for_s=float(random.uniform(0.02, 0.8))
    ),
    "adapter pulled out": lambda random: FaultSpec(),
    "stalls and NaN": lambda random: FaultSpec(),
}
"""What goes wrong in a run, drawn from its seed."""


def drawn_spec(kind: str, description: RobotDescription, random: np.random.Generator) -> FaultSpec:
    """A fault of this kind; a line's faults begin with the connection, or when the arm is armed."""
    spec = dataclasses.replace(KINDS[kind](random), after_s=float(random.choice((0.0, ARMED_S))))
    servos = (0,) if description.bus is None else description.bus.servos
    return dataclasses.replace(spec, dead_servo=int(random.choice(servos)) if spec.dead_servo else 0)


class StepWatch:
    """A recorder that measures how far commands step when a hold is over."""

    def __init__(self, description: RobotDescription) -> None:
        self._reach = description.limits("velocity_max_rad_s") * description.servo_dt_s
        self._before: JointCommand | None = None
        self._left = 0
        self._armed_anew = False
        self.jump_share_max = 0.0
        """Largest step after a hold, as a share of what the velocity limit allows."""
        self.holds = self.recoveries = 0
        self.at_tick: dict[int, Any] = {}
        self._ticks = 0

    def tick(self, *, phase: str, state: RobotState | None, command: JointCommand, **_: object) -> None:
        """Measure the step from the command before, or from where the arm stood when it was armed anew."""
        self._ticks += 1
        if act := self.at_tick.get(self._ticks):
            act()
        if self._left and self._before is not None and not self._armed_anew:
            step = np.abs(command.joint_pos - self._before.joint_pos) / self._reach
            self.jump_share_max = max(self.jump_share_max, float(step.max()))
        self._armed_anew = False
        self._left = max(0, self._left - 1)
        self._before = command

    def decision(self, **_: object) -> None:
        """Not looked at."""

    def source(self, **_: object) -> None:
        """Not looked at."""

    def event(self, *, name: str, detail: str, **_: object) -> None:
        """Begin to watch when a hold is over."""
        if name == "holding":
            self.holds += 1
        elif name in ("running", "armed", "homing") and self.holds > self.recoveries:
            self.recoveries += 1
            self._left = WATCHED_TICKS
            # A step from the arm's own stance is the emulator's to judge.
            self._armed_anew = name == "armed"


def run_in_process(protocol: str, kind: str, seed: int) -> dict[str, Any]:
    """One run, as bridge and emulator report it."""
    random = np.random.default_rng(seed)
    description = load_description(ARMS[protocol])
    clock = LimitedClock(START_S)
    arm = EmulatedArm(
        KinematicRobot(description), clock.now(), 0.0 if protocol == "native" else RAD_PER_COUNT
    )
    clock.arm = arm
    spec = drawn_spec(kind, description, random)
    device = FaultyDevice(make_device(protocol, arm), spec, clock.now())
    loopback = LoopbackLink(device, arm, clock)
    wire = FaultyLink(loopback, spec, seed=seed, clock=clock)
    robot = DRIVERS[protocol](description, lambda: wire, clock=clock)
    policy = WildPolicy(description, seed, clock, stalls=kind == "stalls and NaN")
    watch = StepWatch(description)
    if kind == "adapter pulled out":
        ticks = int(_at(random) * description.servo_rate_hz)
        watch.at_tick = {ticks: lambda: setattr(loopback, "dead", True)}
    found: dict[str, Any] = {"hang": False, "limit_violations": 0, "end_reason": "", "rearmed": 0}
    try:
        loop = ControlLoop(robot, policy, LoopConfig(duration_s=DURATION_S), clock=clock, recorder=watch)
        report = loop.run()
        found |= {
            "limit_violations": report.limit_violations,
            "end_reason": report.end_reason,
            "rearmed": report.safety_events.get("rearmed", 0),
        }
    except BridgeError as error:
        # Before torque: with so many faults the robot could not be found or armed.
        found["end_reason"] = f"refused: {type(error).__name__}"
    except HangError:
        found["hang"] = True
    found |= {"holds": watch.holds, "recoveries": watch.recoveries}
    # Half a second after the bridge has ended.
    EmulationClock.sleep_until(clock, clock.now() + 0.5)
    witness = arm.witness
    reach = float((description.limits("velocity_max_rad_s") * description.servo_dt_s).min())
    first_share = max(0.0, witness.first_step_rad_max - RAD_PER_COUNT) / reach
    outside = dict(witness.commands_outside_limits_by)
    # A goal on a bus carries no time: bunched up by the line, goals look sudden. That they were not sent so
    # is the bridge's own audit's to say.
    sudden = 0 if protocol == "native" else outside.pop("acceleration", 0)
    return found | {
        "protocol": protocol,
        "kind": kind,
        "seed": seed,
        "commands_ok": witness.commands_ok,
        "commands_outside_limits": sum(outside.values()),
        "outside": outside,
        "arm_outside": arm_outside(description, msgspec.to_builtins(witness), by_hand=True),
        "sudden_by_arrival": sudden,
        "hold_ms_max": witness.hold_delay_ms_max,
        "coasting_ms_max": witness.coasting_ms_max,
        "moving_at_end": bool(np.abs(arm.state.joint_vel).max() > 1e-3),
        "jump_share_max": round(max(watch.jump_share_max, first_share), 4),
        "frames_bad": witness.frames_bad,
    }


def arm_outside(description: RobotDescription, saw: dict[str, Any], *, by_hand: bool) -> list[str]:
    """Limits that servos on a bus have let the arm leave, as its emulator measured it.

    Args:
        description: the arm; empty is returned for one that refuses commands itself.
        saw: the witness.
        by_hand: the clock was. An emulator that falls behind in real time catches up at once: no speed, that.
    """
    if description.bus is None:
        return []
    low, high = description.limits("position_min_rad"), description.limits("position_max_rad")
    fastest = np.array(saw["joint_vel_max"])
    beyond = np.maximum(low - saw["joint_pos_min"], saw["joint_pos_max"] - high)
    outside = []
    if (beyond > 1e-6).any():
        outside.append("position")
    if by_hand and (fastest > (1 + 1e-6) * description.limits("velocity_max_rad_s")).any():
        outside.append("velocity")
    return outside
