"""Studies of one or several policies, and their summary."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from wpg.cli.options import CommandError
from wpg.cli.policies import load_policy
from wpg.cli.transfer.destinations import Destination
from wpg.cli.transfer.paired_tests import mcnemar_p, mcnemar_p_anytime, mmrv, pearson_r, wilcoxon_p
from wpg.cli.transfer.result import PolicyTransfer, TransferResult
from wpg.cli.transfer.study import Study, StudyConfig, side, study
from wpg.cli.transfer.trials import Simulator
from wpg.hardware_bridge.description import RobotSource

FITTED, UNFITTED, SIMULATOR = "fitted simulator", "unfitted simulator", "simulator"
"""Labels of the two simulators of a study with identified actuators, and of the only one without."""


def run_studies(
    files: Sequence[Path],
    from_env: str,
    destination: Destination,
    config: StudyConfig,
    *,
    robot: RobotSource | None = None,
    actuators: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Study]:
    """Study each artifact. All of them are read and their simulators made before anything moves.

    Raises:
        CommandError: a file is given twice or does not fit.
        ArtifactError, EffectsError: a file cannot be used.
    """
    artifacts = [load_policy(path) for path in files]
    if len({artifact.digest for artifact in artifacts}) < len(artifacts):
        raise CommandError("the same policy is given twice")
    robots = {arm.name for one in artifacts if (arm := one.contract.interface.robot) is not None}
    if len(robots) > 1:
        raise CommandError(f"expected policies for one robot, found some for {', '.join(sorted(robots))}")
    opened: list[dict[str, Simulator]] = []
    try:
        for artifact in artifacts:
            artifact.verify_golden()
            simulators: dict[str, Simulator] = {}
            opened.append(simulators)
            if actuators is not None:
                simulators[FITTED] = Simulator(from_env, artifact, robot=robot, effects=actuators)
            label = SIMULATOR if actuators is None else UNFITTED
            simulators[label] = Simulator(from_env, artifact, robot=robot)
        destination.prepare(artifacts)
        return [
            study(artifact, simulators, destination, config, say=say)
            for artifact, simulators in zip(artifacts, opened, strict=True)
        ]
    finally:
        for simulators in opened:
            for simulator in simulators.values():
                simulator.close()


def summarise(studies: Sequence[Study], from_env: str, to: str, actuators: Path | None) -> TransferResult:
    """The numbers of one policy, or of all trials of several policies."""
    results = [one.result for one in studies]
    predicting = [trial for one in studies for trial in one.simulations[0].trials]
    tried = [trial for one in studies for trial in one.tried]
    outcomes = [[trial.success for trial in trials] for trials in (predicting, tried)]
    early = any(result.stopped_early for result in results)
    first, second = side(from_env, predicting), side(to, tried, early=early)
    measured = [result.to.success for result in results]
    fitted = [result.agreement.simulator.success for result in results]
    unfitted = [(result.unfitted or result.agreement).simulator.success for result in results]
    chosen = results[int(np.argmax(fitted))]
    r, violation = pearson_r(fitted, measured), mmrv(fitted, measured)
    gaps = np.array([result.agreement.joint_replay_rmse_rad for result in results])
    return TransferResult(
        from_=from_env,
        to=to,
        robot=studies[0].robot,
        actuators=None if actuators is None else str(actuators),
        verdict=chosen.verdict,
        sentence=chosen.sentence if len(results) == 1 else _ranking(results, chosen, r, violation),
        trials=len(tried),
        success_from=first.success,
        success_from_ci95=first.success_ci95,
        success_to=second.success,
        success_to_ci95=second.success_ci95,
        return_from=first.return_mean,
        return_from_ci95=first.return_ci95,
        return_to=second.return_mean,
        return_to_ci95=second.return_ci95,
        mcnemar_p=mcnemar_p(*outcomes),
        mcnemar_p_anytime=mcnemar_p_anytime(*outcomes),
        error_wilcoxon_p=wilcoxon_p(
            [trial.error_m for trial in predicting], [trial.error_m for trial in tried]
        ),
        pearson_r=r,
        mmrv=violation,
        joint_replay_rmse_rad=np.sqrt((gaps**2).mean(0)).tolist(),
        action_w2=float(np.mean([result.agreement.action_w2 for result in results])),
        unfitted_pearson_r=None if actuators is None else pearson_r(unfitted, measured),
        unfitted_mmrv=None if actuators is None else mmrv(unfitted, measured),
        policies=results,
    )


def _ranking(
    results: Sequence[PolicyTransfer], chosen: PolicyTransfer, r: float | None, violation: float | None
) -> str:
    """The sentence about several policies: how well the one that simulation ranks first works on B."""
    best = max(results, key=lambda result: result.to.success)
    choice = (
        "none does better there"
        if chosen.to.success == best.to.success
        else f"{Path(best.file).name} does better there, with {best.to.success:.0%}"
    )
    agreement = "" if r is None else f"; predicted and measured success correlate with r = {r:.2f}"
    if violation:
        agreement += f"; trusting the predicted order loses {violation:.1%} (MMRV)"
    return (
        f"{chosen.sentence} That is {Path(chosen.file).name}, which simulation prefers of {len(results)} "
        f"policies; {choice}{agreement}."
    )
