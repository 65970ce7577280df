"""``wpg transfer``: compares a policy in its simulator with the same policy where it is to work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from wpg.cli.options import (
    CalibrationFile,
    JsonFile,
    KeyFile,
    UsageError,
    prepare_outputs,
    require_at_least,
    write_json,
)
from wpg.cli.terminal import terminal
from wpg.hardware_bridge.drivers import is_link

if TYPE_CHECKING:
    from wpg.cli.transfer.destinations import Destination, RobotOptions
    from wpg.cli.transfer.result import Agreement, Side, TransferResult

PolicyPaths = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="POLICY",
        help_behavior_hint="",
        help="Exported policies (.onnx), or run folders that hold policy.onnx.",
    ),
]


def transfer(
    policies: PolicyPaths,
    *,
    from_: Annotated[str, tyro.conf.arg(name="from", metavar="ENV")],
    to: Annotated[str, tyro.conf.arg(metavar="ENV|URL|LOG")],
    robot: str | None = None,
    actuators: Annotated[Path | None, tyro.conf.arg(metavar="actuators.toml")] = None,
    trials: int = 100,
    at_least: float | None = None,
    margin: float = 0.1,
    error: float = 0.05,
    all_trials: bool = False,
    seed: int = 0,
    safety: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None,
    key: KeyFile = None,
    calibration: CalibrationFile = None,
    logs: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    json: JsonFile = None,
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
) -> None:
    """Will a policy work on the robot, and what limits it?

    The same file runs in a simulator and on the robot with the same goals, starts and noise. On a robot the
    trials end as soon as the answer is clear.

    Args:
        from_: Environment that predicts.
        to: Another environment, the robot's link (as `wpg run --link` takes it), or the log of a run there.
        robot: A robot's name or the path of its .toml file; by default the policy's.
        actuators: Identified actuators, from `wpg identify`; then the fitted and the unfitted simulator both
            predict.
        trials: Maximum trials on the robot, and trials in each simulator.
        at_least: Required success on the robot; by default the simulator's prediction, but at least 0.5. At
            most 0.98 is asked for.
        margin: How far below that success is too low.
        error: Maximum probability of a wrong verdict.
        all_trials: Run all --trials, even if the answer is clear earlier.
        seed: Seed of goals, starts and noise of the first trial; it increases by one per trial, so repeat
            studies with seeds further apart than the number of trials.
        safety: Thresholds and workspace of the run, as for `wpg run`.
        logs: Save the run's log in this folder, for `wpg identify` and --to.
        html: Write a page with pictures.
    """
    from wpg.cli.transfer.destinations import RobotOptions, robot_of_runs  # noqa: PLC0415  needs a simulator
    from wpg.cli.transfer.study import StudyConfig  # noqa: PLC0415
    from wpg.cli.transfer.transfers import run_studies, summarise  # noqa: PLC0415

    if not policies:
        raise UsageError("which policy? give one exported file or several")
    prepare_outputs(json, html, inputs=(*policies, to, robot, actuators, safety, key, calibration))
    require_at_least(0, seed=seed)
    try:
        config = StudyConfig(
            trials=trials,
            seed=seed,
            at_least=at_least,
            margin=margin,
            error=error,
            stop_early=not all_trials,
        )
    except ValueError as mistake:
        raise UsageError(str(mistake)) from mistake
    arm = robot_of_runs(policies) if robot is None else robot
    options = RobotOptions(robot=arm, key=key, calibration=calibration, safety=safety, logs=logs)
    console = terminal()
    destination = _destination(to, options)
    studies = run_studies(
        policies,
        from_,
        destination,
        config,
        robot=arm,
        actuators=actuators,
        say=console.print,
    )
    result = summarise(studies, from_, to, actuators)
    _show(result, console, again=destination.is_robot)
    write_json(json, result)
    if html is not None:
        from wpg.cli.transfer.report import render  # noqa: PLC0415  matplotlib takes its time

        html.write_text(render(studies, result))
        console.print(f"report: {html}", soft_wrap=True)


def _destination(to: str, options: "RobotOptions") -> "Destination":
    from wpg.cli.transfer.destinations import LinkedRobot, LoggedRobot, OtherEnvironment  # noqa: PLC0415

    if is_link(to):
        return LinkedRobot(to, options)
    if any(option is not None for option in (options.key, options.calibration, options.safety, options.logs)):
        raise UsageError(f"--key, --calibration, --safety and --logs are for a robot's link, found --to {to}")
    if to.endswith(".mcap") or Path(to).exists():
        return LoggedRobot(Path(to))
    return OtherEnvironment(to, options.robot)


def _show(result: "TransferResult", console: Console, *, again: bool) -> None:
    """Print the result; ``again`` means that the simulators' trials begin where the robot's did."""
    for policy in result.policies:
        table = Table(box=None, padding=(0, 1), title=policy.file, title_justify="left")
        for heading in ("", "success", "95 %", "return", "joint gap", "action W2"):
            table.add_column(heading, justify="left" if not heading else "right", no_wrap=bool(heading))
        for agreement in (policy.unfitted, policy.agreement):
            if agreement is not None:
                table.add_row(*_row(agreement.simulator), *_gap(agreement))
        table.add_row(*_row(policy.to), "", "")
        console.print(table)
        agreement = policy.agreement
        p = agreement.mcnemar_p_anytime if policy.stopped_early else agreement.mcnemar_p
        plan = policy.plan
        if again:
            console.print(
                "  the simulators' trials are repeated from the robot's starts; before, "
                f"{plan.predicted:.0%} of {plan.predicted_trials} goals were predicted"
            )
        fixed = f", where a test of fixed size takes {plan.fixed_trials}" * policy.stopped_early
        console.print(
            f"  {policy.trials} trials{fixed}; goal by goal, p = {p:.3g} for equal success, "
            f"p = {agreement.error_wilcoxon_p:.3g} for equal error"
        )
    if len(result.policies) > 1:
        r = "cannot be told" if result.pearson_r is None else f"= {result.pearson_r:.3f}"
        console.print(f"r {r}, MMRV = {result.mmrv:.3f}")
    console.print(result.sentence, style="bold")


def _row(side: "Side") -> tuple[str, str, str, str]:
    low, high = side.success_ci95
    return side.place, f"{side.success:.0%}", f"{100 * low:.0f} to {high:.0%}", f"{side.return_mean:.1f}"


def _gap(agreement: "Agreement") -> tuple[str, str]:
    return f"{1000 * agreement.joint_gap_rad:.1f} mrad", f"{agreement.action_w2:.4f}"
