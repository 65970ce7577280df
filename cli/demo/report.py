"""``report.html`` of the demo: one self-contained page."""

import base64
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wpg.cli.demo import figures
from wpg.cli.demo.files import ENGINE_ENVS, DemoFiles, Summary
from wpg.cli.demo.pictures import Strip, picture_strip
from wpg.cli.demo.trials import LinkTrial, SuccessRow, TrainingCurve, read_trial
from wpg.cli.pages import machine, template
from wpg.export.contract import Contract
from wpg.export.description import describe
from wpg.export.interface import GoalSpec
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.description import load_description

ENGINE_TITLES = {"mujoco": "MuJoCo", "pybullet": "PyBullet"}
LINK_TITLES = {"serial": "serial pty", "udp": "UDP"}
PICTURE_STEPS = (0, 6, 12, 40)


def write_report(files: DemoFiles, links: tuple[str, ...], commands: list[str], started_s: float) -> Summary:
    """Write the page from the files that the demo's steps wrote.

    Args:
        files: of the demo.
        links: names of the link trials.
        commands: command lines of the steps.
        started_s: ``time.monotonic()`` at the demo's start.
    """
    artifact = load_artifact(files.artifact)
    contract = artifact.contract
    assert contract.interface.robot is not None
    assert contract.interface.goal is not None
    assert contract.provenance.seed is not None
    curve = _read_curve(files.run / "metrics.csv")
    trials = {name: read_trial(LINK_TITLES[name], files, name) for name in links}
    engines = {engine: _read(files.evaluation(engine)) for engine in ENGINE_ENVS}
    strip = picture_strip(artifact, tuple(ENGINE_ENVS.values()), contract.provenance.seed, PICTURE_STEPS)
    files.strip.write_bytes(strip.png())
    summary = _summarise(curve, engines, trials, wall_s=time.monotonic() - started_s)
    page = template("wpg.cli.demo", "report.html.j2").render(
        title="A Panda learns to reach, and does it over real bytes",
        verdict=_verdict(summary),
        subtitle=time.strftime("%Y-%m-%d %H:%M") + f", {summary.wall_s:.0f} s from start to this page",
        **_pictures(strip),
        **_figures(contract, contract.interface.goal, curve, engines, list(trials.values())),
        summary=summary,
        trials=list(trials.values()),
        episodes=engines["mujoco"]["episodes"],
        tolerance_mm=f"{1000 * contract.interface.goal.tolerance_m:g}",
        horizon=contract.interface.goal.horizon_steps,
        robot=load_description(contract.interface.robot.name),
        artifact=files.artifact,
        contract=describe(contract),
        commands="\n".join(commands),
        versions=list(machine().items()),
    )
    files.report.write_text(page)
    return summary


def _figures(
    contract: Contract,
    goal: GoalSpec,
    curve: TrainingCurve,
    engines: dict[str, dict[str, Any]],
    trials: list[LinkTrial],
) -> dict[str, str]:
    assert contract.interface.robot is not None
    rows = [_engine_row(ENGINE_TITLES[name], result) for name, result in engines.items()]
    return {
        "success_figure": figures.success_bars([*rows, *(trial.success for trial in trials)]),
        "learning_figure": figures.learning_curve(curve),
        "error_figure": figures.tool_errors(trials, goal.tolerance_m),
        "joint_figure": figures.joint_traces(trials[0], load_description(contract.interface.robot.name)),
        "joint_label": trials[0].label,
        "lateness_figure": figures.lateness_histogram(trials),
    }


def _pictures(strip: Strip) -> dict[str, Any]:
    moments = ", ".join(f"{seconds:.1f}" for seconds in strip.times_s)
    caption = (
        f"One episode in {strip.env} after {moments} s. The sphere is the goal, as large as the tolerance."
    )
    return {"strip_png": base64.b64encode(strip.png()).decode(), "strip_caption": caption}


def _engine_row(title: str, result: dict[str, Any]) -> SuccessRow:
    episodes = result["episodes"]
    return SuccessRow(
        label=title, successes=round(result["success_rate"] * episodes), trials=episodes, deployed=False
    )


def _summarise(
    curve: TrainingCurve, engines: dict[str, dict[str, Any]], trials: dict[str, LinkTrial], wall_s: float
) -> Summary:
    serial, udp = trials["serial"], trials["udp"]
    return Summary(
        wall_s=wall_s,
        train_s=curve.wall_s,
        success_mujoco=engines["mujoco"]["success_rate"],
        success_pybullet=engines["pybullet"]["success_rate"],
        success_serial=serial.success.rate,
        success_udp=udp.success.rate,
        goals_serial=serial.success.trials,
        goals_udp=udp.success.trials,
        limit_violations=sum(trial.limit_violations for trial in trials.values()),
        rate_hz=min(trial.report["rate_hz"] for trial in trials.values()),
        lateness_us={
            key: max(trial.report["lateness_us"][key] for trial in trials.values())
            for key in ("p50", "p99", "p999", "max")
        },
    )


def _verdict(summary: Summary) -> str:
    safe = (
        "no command left the robot's limits, by the bridge's count and by the emulators'"
        if summary.limit_violations == 0
        else f"{summary.limit_violations} commands left the robot's limits"
    )
    return (
        f"Trained for {summary.train_s:.0f} s in MuJoCo, the policy reaches {summary.success_mujoco:.0%} of "
        f"its goals there, {summary.success_pybullet:.0%} in PyBullet, {summary.success_serial:.0%} over a "
        f"serial line and {summary.success_udp:.0%} over UDP; {safe}."
    )


def _read_curve(path: Path) -> TrainingCurve:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    evaluated = [row for row in rows if row["eval_success"]]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in evaluated])

    return TrainingCurve(
        steps=column("step"),
        seconds=column("seconds"),
        success=column("eval_success"),
        wall_s=float(rows[-1]["seconds"]),
    )


def _read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text())
    return result
