"""Tries one artifact in its simulators and in place B, and compares the results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpg.cli.options import CommandError
from wpg.cli.transfer.destinations import Destination, Tried
from wpg.cli.transfer.measures import Parting, ReplayGap, action_w2, parting, replay_gap
from wpg.cli.transfer.paired_tests import anytime_interval, mcnemar_p, mcnemar_p_anytime, wilcoxon_p
from wpg.cli.transfer.result import Agreement, Plan, PolicyTransfer, Side
from wpg.cli.transfer.sequential_test import SequentialTest, fixed_size, sequential_test
from wpg.cli.transfer.trials import Simulator, Trial, pairing
from wpg.cli.transfer.verdict import sentence
from wpg.controllers.statistics import Interval, bootstrap_interval, wilson_interval
from wpg.export.artifact import Artifact
from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.policy import SampledPolicy

LEAST_TARGET, MOST_TARGET = 0.5, 0.98
"""By default B must reach at least the first share of the goals, even if the simulator predicts less. More
than the second is never required, since it could not be shown in few trials."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Settings of a study."""

    trials: int = 100
    """Maximum number of trials on B."""
    seed: int = 0
    at_least: float | None = None
    """Success that B must reach; None takes the simulator's prediction."""
    margin: float = 0.1
    """How far below that success is too low."""
    error: float = 0.05
    """Largest probability of a wrong verdict."""
    stop_early: bool = True

    def __post_init__(self) -> None:
        if self.trials < 2:
            raise ValueError(f"--trials: expected at least 2, found {self.trials}")
        if not 0 < self.error < 0.5:
            raise ValueError(f"--error: expected a number between 0 and 0.5, found {self.error}")
        target = LEAST_TARGET if self.at_least is None else self.at_least
        if not 0 < target <= 1:
            raise ValueError(f"--at-least: expected a share of the goals, such as 0.9, found {target:g}")
        if not 0 < self.margin < target:
            raise ValueError(
                f"--margin: expected more than 0 and less than the success asked for ({target:g}), "
                f"found {self.margin:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Paired trials of a simulator and of B, for the figures."""

    label: str
    trials: list[Trial]
    parting: Parting


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that was measured of one policy."""

    result: PolicyTransfer
    robot: str
    interface: PolicyInterface
    tolerance_m: float
    tried: list[Trial]
    """Trials on B."""
    simulations: list[Simulation]
    """Comparisons with the simulators; the first is the one in the result's ``agreement``."""
    test: SequentialTest


def study(
    artifact: Artifact,
    simulators: dict[str, Simulator],
    destination: Destination,
    config: StudyConfig,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Study:
    """Predict, try on B, and compare.

    Args:
        artifact: the policy.
        simulators: by label; the first predicts.
        destination: B.
        config: settings of the study.
        say: receives lines about the progress.
    """
    label, simulator = next(iter(simulators.items()))
    predicted = _simulate(artifact, simulator, config, [None] * config.trials, robot=destination.is_robot)
    test, plan = _plan(predicted, config)
    say(
        f"{artifact.path.name} reaches {plan.predicted:.0%} of {plan.predicted_trials} goals in the {label} "
        f"({simulator.env_id}); is it at least {plan.high:.0%} on {destination.name}, or {plan.low:.0%} and "
        f"less? {destination.extent(artifact, config.trials, plan.max_trials)}"
    )

    def enough(outcomes: Sequence[bool]) -> bool:
        return config.stop_early and test.verdict(sum(outcomes), len(outcomes)) != "undecided"

    tried = destination.run(artifact, simulator, config.trials, config.seed, enough)
    pairs = [pairing(trial) if destination.is_robot else None for trial in tried.trials]
    simulations = {
        label: _simulate(artifact, one, config, pairs, robot=destination.is_robot)
        for label, one in simulators.items()
    }
    return _compare(
        artifact, simulators, simulations, tried, destination, config=config, test=test, plan=plan
    )


def _simulate(
    artifact: Artifact,
    simulator: Simulator,
    config: StudyConfig,
    options: Sequence[dict[str, Any] | None],
    *,
    robot: bool,
) -> list[Trial]:
    """Trials whose noise is B's: both sides draw it from the same seed, one decision after the other."""
    policy = SampledPolicy(artifact, config.seed)
    return [
        simulator.run(policy, config.seed + index, own, as_measured=robot)
        for index, own in enumerate(options)
    ]


def _plan(predicted: Sequence[Trial], config: StudyConfig) -> tuple[SequentialTest, Plan]:
    success = sum(trial.success for trial in predicted) / len(predicted)
    target = max(success, LEAST_TARGET) if config.at_least is None else config.at_least
    high = min(target, MOST_TARGET)
    try:
        test = sequential_test(high - config.margin, high, config.error)
    except ValueError as error:
        raise CommandError(f"--margin, --error: {error}") from error
    fixed, _ = fixed_size(test.low, test.high, config.error)
    plan = Plan(
        predicted=success,
        predicted_trials=len(predicted),
        low=test.low,
        high=test.high,
        error=config.error,
        fixed_trials=fixed,
        max_trials=test.max_trials,
    )
    return test, plan


def _compare(
    artifact: Artifact,
    simulators: dict[str, Simulator],
    simulations: dict[str, list[Trial]],
    tried: Tried,
    destination: Destination,
    *,
    config: StudyConfig,
    test: SequentialTest,
    plan: Plan,
) -> Study:
    interface = artifact.contract.interface
    assert interface.robot is not None
    agreements, shown = [], []
    for label, trials in simulations.items():
        if not np.allclose([trial.goal_m for trial in trials], [trial.goal_m for trial in tried.trials]):
            raise CommandError(f"{simulators[label].env_id} and {destination.name} are different tasks")
        parted = parting(
            trials,
            tried.trials,
            control_dt_s=interface.control_dt_s,
            tolerance_m=simulators[label].arm.tolerance_m,
        )
        gap = replay_gap(simulators[label], tried.trials, seed=config.seed, by_start=destination.is_robot)
        distance = action_w2(artifact, trials, tried.trials)
        agreements.append(_agreement(label, trials, tried.trials, gap, parted=parted, action_w2=distance))
        shown.append(Simulation(label=label, trials=trials, parting=parted))
    outcomes = [trial.success for trial in tried.trials]
    decided = _decided_after(test, outcomes)
    stopped = decided is not None and len(outcomes) < config.trials
    early = config.stop_early and destination.is_robot and stopped
    result = PolicyTransfer(
        file=str(artifact.path),
        policy_sha256=artifact.digest,
        trained_delay_s=_trained_delay(interface),
        trials=len(outcomes),
        stopped_early=early,
        verdict="undecided" if decided is None else test.verdict(sum(outcomes[:decided]), decided),
        decided_after=decided,
        sentence="",
        plan=plan,
        to=side(destination.name, tried.trials, early=early),
        agreement=agreements[0],
        unfitted=agreements[1] if len(agreements) > 1 else None,
        safety_events=tried.safety_events,
    )
    result.sentence = sentence(result, tried.trials, shown[-1].trials)
    return Study(
        result=result,
        robot=interface.robot.name,
        interface=interface,
        tolerance_m=next(iter(simulators.values())).arm.tolerance_m,
        tried=tried.trials,
        simulations=shown,
        test=test,
    )


def _trained_delay(interface: PolicyInterface) -> Interval:
    """Delay as a replay measures it: that of the link to the arm and back, and the lag of its servos."""
    lags = [span for name, span in interface.trained_ranges.items() if name.endswith("lag_s")]
    low, high = np.mean(lags, axis=0) if lags else (0.0, 0.0)
    return interface.trained_delay_s[0] + float(low), interface.trained_delay_s[1] + float(high)


def _decided_after(test: SequentialTest, outcomes: Sequence[bool]) -> int | None:
    successes = 0
    for trials, outcome in enumerate(outcomes, start=1):
        successes += outcome
        if test.verdict(successes, trials) != "undecided":
            return trials
    return None


def side(place: str, trials: Sequence[Trial], *, early: bool = False) -> Side:
    """Success and return of trials; ``early`` means that their outcomes decided when to stop."""
    successes = sum(trial.success for trial in trials)
    totals = [trial.total for trial in trials]
    interval = anytime_interval if early else wilson_interval
    return Side(
        place=place,
        success=successes / len(trials),
        success_ci95=interval(successes, len(trials)),
        return_mean=float(np.mean(totals)),
        return_ci95=bootstrap_interval(totals),
        error_median_m=float(np.median([trial.error_m for trial in trials])),
    )


def _agreement(
    label: str,
    trials: Sequence[Trial],
    tried: Sequence[Trial],
    gap: ReplayGap,
    *,
    parted: Parting,
    action_w2: float,
) -> Agreement:
    outcomes = [[trial.success for trial in own] for own in (trials, tried)]
    errors = [[trial.error_m for trial in own] for own in (trials, tried)]
    totals = [np.array([trial.total for trial in own]) for own in (trials, tried)]
    return Agreement(
        simulator=side(label, trials),
        success_difference=float(np.mean(outcomes[1]) - np.mean(outcomes[0])),
        mcnemar_p=mcnemar_p(*outcomes),
        mcnemar_p_anytime=mcnemar_p_anytime(*outcomes),
        return_difference=float(totals[1].mean() - totals[0].mean()),
        return_difference_ci95=bootstrap_interval(totals[1] - totals[0]),
        error_wilcoxon_p=wilcoxon_p(*errors),
        joint_replay_rmse_rad=gap.rmse_rad.tolist(),
        action_w2=action_w2,
        parted_s=parted.parted_s,
        causes=list(gap.causes),
    )
