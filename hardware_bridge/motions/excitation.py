"""A motion by which an arm's delay, lag, gains, friction and payload can be identified, inside its limits.

Rounds of three kinds of motion, all joints at once: slow waves with reversals (dry against viscous friction,
gravity), quick steps (delay against lag), faster waves (gains). Steps are jerk-limited by Ruckig; waves are
sums of sines under a window that is smooth up to its third derivative, scaled until they stay inside
``motion_fraction`` of every limit.
"""

from dataclasses import dataclass

import numpy as np

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.safety import SafetyConfig, SafetyFilter
from wpg.hardware_bridge.control.target_limiter import TargetLimiter
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.setpoints import SetpointGenerator

AMPLITUDE_RAD = 0.25
"""Largest distance of a joint from home."""
MARGIN_SHARE = 0.6
"""Largest share used of the way from home to the nearer position limit."""
SLOW_HZ, FAST_HZ = (0.15, 0.6), (0.8, 2.4)
NUM_SINES = 3
FADE_S = 1.0
RESTS_S = (0.05, 0.3)
"""Shortest and longest rest after a step."""
MOVE_S = 10.0
"""Steps are computed in pieces of this length. They take longer only if ``motion_fraction`` is tiny."""
HEADROOM = 0.9
"""Share of the permitted velocity, acceleration and jerk that waves take."""
LOWEST_M = 0.05
"""The tool stays at least this high over the base. If it is lower than twice this at home, as on an arm that
hangs, it goes down by at most half its distance from the base's height."""
AMPLITUDE_MIN_RAD = 1e-3
LOOK_EVERY_S = 0.02
"""The tool's position is computed this often along the motion."""


@dataclass(frozen=True, kw_only=True)
class MotionPath:
    """Setpoints from rest to rest, one per servo period."""

    joint_pos: Vector
    """(T, num_joints) rad."""
    joint_vel: Vector
    """(T, num_joints) rad/s."""


@dataclass(frozen=True, kw_only=True)
class ExcitationPlan:
    """Duration of the motion, and the seed it is drawn with."""

    rounds: int = 2
    """Number of rounds. Each is drawn anew, so that the last one can test the fit to the others."""
    slow_s: float = 6.0
    """Duration of the slow waves in each round."""
    steps_s: float = 5.0
    """Duration of the steps in each round."""
    fast_s: float = 3.0
    """Duration of the fast waves in each round."""
    seed: int = 0
    """Seed of frequencies, phases and targets."""


def excitation(
    description: RobotDescription,
    plan: ExcitationPlan | None = None,
    safety: SafetyConfig | None = None,
) -> MotionPath:
    """The motion, from home to home, so small that the tool stays above the base and inside its box.

    Args:
        description: the robot.
        plan: duration and seed.
        safety: the box of the tool.

    Raises:
        DescriptionError: any motion brings the tool too low, or out of its box.
    """
    plan, limiter = plan or ExcitationPlan(), TargetLimiter(description, safety or SafetyConfig())
    amplitude = np.minimum(AMPLITUDE_RAD, MARGIN_SHARE * _margin(description))
    inside = True
    while amplitude.max() > AMPLITUDE_MIN_RAD:
        path = _path(description, plan, amplitude)
        inside = _stays_inside(path, description, limiter)
        if inside and _is_high_enough(path, description):
            return path
        amplitude = 0.8 * amplitude
    if not inside:
        raise DescriptionError(
            f"workspace: robot {description.name} at home has its tool outside its box, or so near its edge "
            "that any motion leaves it: choose another home_rad or a larger box"
        )
    raise DescriptionError(
        f"robot {description.name}: at home its tool is as high as its base, and any motion brings it lower: "
        "choose another home_rad"
    )


def _path(description: RobotDescription, plan: ExcitationPlan, amplitude: Vector) -> MotionPath:
    rng = np.random.default_rng(plan.seed)
    parts = []
    for _ in range(plan.rounds):
        parts.append(_waves(description, amplitude, SLOW_HZ, plan.slow_s, rng))
        parts.append(_steps(description, amplitude, plan.steps_s, rng))
        parts.append(_waves(description, amplitude, FAST_HZ, plan.fast_s, rng))
    joint_pos, joint_vel = (np.concatenate([part[kind] for part in parts]) for kind in (0, 1))
    return MotionPath(joint_pos=joint_pos, joint_vel=joint_vel)


def _waves(
    description: RobotDescription,
    amplitude: Vector,
    band_hz: tuple[float, float],
    duration_s: float,
    rng: np.random.Generator,
) -> tuple[Vector, Vector]:
    """Sums of sines of log-spaced frequencies, which no two joints share, around home."""
    joints, dt_s = description.num_joints, description.servo_dt_s
    time_s: Vector = np.arange(1.0, round(duration_s / dt_s) + 1.0) * dt_s
    frequencies = np.geomspace(*band_hz, NUM_SINES * joints).reshape(NUM_SINES, joints)
    frequencies = rng.permuted(frequencies, axis=1)
    phases = rng.uniform(0.0, 2.0 * np.pi, (NUM_SINES, joints))
    waves = np.sin(2.0 * np.pi * frequencies * time_s[:, None, None] + phases).sum(axis=1)  # (T, J)
    shape = _window(time_s, duration_s)[:, None] * waves
    shape *= amplitude / np.abs(shape).max(axis=0)
    velocity, acceleration, jerk = _derivatives(shape, dt_s)
    for rate, limit in (
        (velocity, "velocity_max_rad_s"),
        (acceleration, "acceleration_max_rad_s2"),
        (jerk, "jerk_max_rad_s3"),
    ):
        allowed = HEADROOM * description.motion_fraction * description.limits(limit)
        factor = np.minimum(1.0, allowed / np.abs(rate).max(axis=0))
        shape, velocity, acceleration, jerk = (row * factor for row in (shape, velocity, acceleration, jerk))
    return description.limits("home_rad") + shape, velocity


def _steps(
    description: RobotDescription, amplitude: Vector, duration_s: float, rng: np.random.Generator
) -> tuple[Vector, Vector]:
    """Steps: two joints at a time go to the other side of home, and rest; at the end all go home."""
    home, dt_s = description.limits("home_rad"), description.servo_dt_s
    setpoints = SetpointGenerator(description, dt_s)
    setpoints.reset(home)
    order = rng.permutation(description.num_joints)
    side = np.zeros(description.num_joints)
    moves: list[tuple[Vector, Vector]] = []
    number = 0
    while sum(len(move[0]) for move in moves) * dt_s < duration_s:
        movers = order[[number % len(order), (number + len(order) // 2) % len(order)]]
        side[movers] = np.where(side[movers] == 0.0, rng.choice([-1.0, 1.0], len(movers)), -side[movers])
        moves.append(_move(setpoints, home + side * amplitude, rng.uniform(*RESTS_S), dt_s))
        number += 1
    moves.append(_move(setpoints, home, RESTS_S[1], dt_s))
    joint_pos, joint_vel = (np.concatenate([move[kind] for move in moves]) for kind in (0, 1))
    return joint_pos, joint_vel


def _move(setpoints: SetpointGenerator, target: Vector, rest_s: float, dt_s: float) -> tuple[Vector, Vector]:
    """From rest to rest at ``target``, and ``rest_s`` there."""
    setpoints.set_target(target)
    parts = [setpoints.steps(round(MOVE_S / dt_s))]
    while (np.abs(parts[-1][0][-1] - target) > 1e-9).any():
        parts.append(setpoints.steps(round(MOVE_S / dt_s)))
    joint_pos, joint_vel = (np.concatenate([part[kind] for part in parts]) for kind in (0, 1))
    moving = (np.abs(joint_pos - target) > 1e-9).any(axis=1)
    end = int(np.flatnonzero(moving)[-1]) + 2 + round(rest_s / dt_s)
    return joint_pos[:end], joint_vel[:end]


def _window(time_s: Vector, duration_s: float) -> Vector:
    """From 0 to 1 and back to 0, with three derivatives that are 0 at the ends."""
    fade_s = min(FADE_S, duration_s / 2.0)
    x = np.clip(np.minimum(time_s, duration_s - time_s) / fade_s, 0.0, 1.0)
    window: Vector = x**4 * (35.0 - 84.0 * x + 70.0 * x**2 - 20.0 * x**3)
    return window


def _derivatives(shape: Vector, dt_s: float) -> tuple[Vector, Vector, Vector]:
    """Velocity, acceleration and jerk of a path that begins and ends at rest, (T, num_joints) each."""
    velocity = np.gradient(shape, dt_s, axis=0)
    acceleration = np.gradient(velocity, dt_s, axis=0)
    return velocity, acceleration, np.gradient(acceleration, dt_s, axis=0)


def _margin(description: RobotDescription) -> Vector:
    home = description.limits("home_rad")
    low, high = description.limits("position_min_rad"), description.limits("position_max_rad")
    margin: Vector = np.minimum(home - low, high - home)
    return margin


def _stays_inside(path: MotionPath, description: RobotDescription, limiter: TargetLimiter) -> bool:
    """Whether the tool stays in its box, and would even if the arm had to brake on the way."""
    stops = SafetyFilter(description, description.servo_dt_s).stop_from(path.joint_pos, path.joint_vel)
    rows = zip(_thin(path.joint_pos, description), _thin(stops, description), strict=True)
    return all(limiter.is_inside(row) and limiter.hazard(row, stop) is None for row, stop in rows)


def _thin(rows: Vector, description: RobotDescription) -> Vector:
    """One row every ``LOOK_EVERY_S``."""
    return rows[:: max(1, round(LOOK_EVERY_S / description.servo_dt_s))]


def _is_high_enough(path: MotionPath, description: RobotDescription) -> bool:
    kinematics = ForwardKinematics(description.kinematics())
    home_m = kinematics.tool_position(description.limits("home_rad"))[2]
    thin = _thin(path.joint_pos, description)
    lowest_m = min(float(kinematics.tool_position(row)[2]) for row in thin)
    return lowest_m >= min(LOWEST_M, float(home_m - abs(home_m) / 2.0))
