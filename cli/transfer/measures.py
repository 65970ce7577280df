"""Measures of the difference between two sets of paired trials, and of its causes."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from wpg.cli.transfer.trials import Simulator, Trial, pairing
from wpg.export.artifact import Artifact
from wpg.hardware_bridge.robot import Vector

MAX_DELAY_S = 0.3
SETTLED = 0.8
"""Share of a trial after which a remaining difference is taken as constant."""
STATES_COMPARED = 400
SMALL_RAD = 0.003
"""Replay gaps below this are not attributed to causes."""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A cause of a part of the replay gap."""

    name: str
    """``delay``, ``offset`` or ``other``."""
    share: float
    """Share of the mean squared gap."""
    size: float
    """Size of a delay in s, of an offset in rad, or of the rest in rad (root mean square)."""
    joint: str | None = None
    """Joint with the largest offset."""


@dataclass(frozen=True, kw_only=True)
class ReplayGap:
    """How far B's joints are from those of simulator A when A is sent the commands of B."""

    rmse_rad: Vector
    """Root mean square (num_joints,), over all steps of all trials."""
    causes: tuple[Cause, ...]
    """Largest share first."""


def replay_gap(simulator: Simulator, trials: Sequence[Trial], *, seed: int, by_start: bool) -> ReplayGap:
    """Send the commands of every trial to the simulated arm, and compare its joints with the trial's.

    Args:
        simulator: A.
        trials: of B.
        seed: of the simulator: trial i uses ``seed + i``.
        by_start: begin at the joint positions measured in the trial, not at those that the seed gives.
    """
    dt_s = simulator.arm.robot.description.servo_dt_s
    replays = [
        simulator.replay(trial, seed + index, pairing(trial) if by_start else None)
        for index, trial in enumerate(trials)
    ]
    squared = [
        np.mean([(_gap(one, trial, ticks) ** 2).mean() for one, trial in zip(replays, trials, strict=True)])
        for ticks in range(round(MAX_DELAY_S / dt_s))
    ]
    best = int(np.argmin(squared))
    gaps, shifted = (
        [_gap(one, trial, ticks) for one, trial in zip(replays, trials, strict=True)] for ticks in (0, best)
    )
    names = simulator.arm.robot.description.joint_names
    return ReplayGap(
        rmse_rad=np.sqrt(np.concatenate([gap**2 for gap in gaps]).mean(0)),
        causes=_causes(float(squared[0]), best * dt_s, float(squared[best]), shifted, names),
    )


def _gap(replay: Vector, trial: Trial, delay_ticks: int) -> Vector:
    """(T + 1, num_joints): B at its steps, minus A this number of servo periods earlier."""
    difference: Vector = trial.joint_pos_rad - replay[np.clip(trial.steps - delay_ticks, 0, len(replay) - 1)]
    return difference


def _causes(
    squared: float, delay_s: float, squared_after: float, gaps: Sequence[Vector], names: Sequence[str]
) -> tuple[Cause, ...]:
    """Split the mean squared gap into what a delay explains, what is constant at the end, and the rest."""
    if squared < SMALL_RAD**2:
        return ()
    ends = np.array([gap[int(SETTLED * len(gap)) :].mean(0) for gap in gaps])  # (trials, num_joints)
    standing = min(float((ends**2).mean()), squared_after)
    worst = int((ends**2).mean(0).argmax())
    rest = squared_after - standing
    causes = [
        Cause(name="delay", share=1 - squared_after / squared, size=delay_s),
        Cause(
            name="offset",
            share=standing / squared,
            size=float(np.sqrt((ends[:, worst] ** 2).mean())),
            joint=names[worst],
        ),
        Cause(name="other", share=rest / squared, size=float(np.sqrt(rest))),
    ]
    return tuple(sorted(causes, key=lambda cause: -cause.share))


def action_w2(artifact: Artifact, first: Sequence[Trial], second: Sequence[Trial]) -> float:
    """Mean Wasserstein-2 distance of the policy's particles at paired states, in the action's unit.

    The states are those that the two places were in at the same step of the same trial, and the noise is the
    same, so the distance is 0 where the states are equal. Of two sets of K particles it is
    ``W2² = min_σ 1/K Σ ‖aᵢ − b_σ(i)‖²``, an assignment problem (Peyré and Cuturi, Computational Optimal
    Transport, 2019, proposition 2.1).
    """
    pairs = [
        (a.obs[step], b.obs[step])
        for a, b in zip(first, second, strict=True)
        for step in range(min(len(a.obs), len(b.obs)))
    ]
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(pairs))[:STATES_COMPARED]
    noise = generator.standard_normal((len(chosen), *artifact.sampler().noise_shape), dtype=np.float32)
    sets = [
        artifact.run(np.array([pairs[index][side] for index in chosen]), noise).particles for side in (0, 1)
    ]
    distances = [_w2(a, b) for a, b in zip(*sets, strict=True)]
    return float(np.mean(distances))


def _w2(first: Vector, second: Vector) -> float:
    """Wasserstein-2 distance of two sets of particles (K, A)."""
    cost = cdist(first, second, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Distance, between paired trials, of the tool or object that must reach the goal."""

    time_s: Vector
    """(T + 1,)."""
    median_m: Vector
    high_m: Vector
    """(T + 1,), 90 % quantile."""
    parted_s: float | None
    """Time from which the median stays above half the tolerance; None if it never does."""


def parting(
    first: Sequence[Trial], second: Sequence[Trial], *, control_dt_s: float, tolerance_m: float
) -> Parting:
    """Distance between paired trials over time."""
    length = min(len(trial.achieved_m) for trial in (*first, *second))
    distance = np.array(
        [
            np.linalg.norm(a.achieved_m[:length] - b.achieved_m[:length], axis=1)
            for a, b in zip(first, second, strict=True)
        ]
    )
    median = np.median(distance, axis=0)
    near = np.flatnonzero(median <= tolerance_m / 2)
    since = 0 if not near.size else int(near[-1]) + 1
    time_s = control_dt_s * np.arange(length, dtype=np.float64)
    return Parting(
        time_s=time_s,
        median_m=median,
        high_m=np.quantile(distance, 0.9, axis=0),
        parted_s=float(time_s[since]) if since < length else None,
    )
