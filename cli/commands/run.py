"""``wpg run``: an exported policy in the real-time control loop, on a robot."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from wpg.cli.options import (
    CalibrationFile,
    CommandError,
    JsonFile,
    KeyFile,
    SafetyFile,
    UsageError,
    prepare_outputs,
    require_at_least,
    usage_error,
    write_json,
)
from wpg.cli.policies import PolicyPath, load_policy, why_not_on_robot
from wpg.cli.robots import keys_of_terminal, robot_at, safety_of, stop_by
from wpg.cli.sources import PutBackMode, SourceKeyFile, SourceOption, link_sources, put_back_by
from wpg.cli.terminal import remark, terminal
from wpg.export.contract import Contract
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.report import RunReport
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.realtime import RealtimeConfig
from wpg.hardware_bridge.robot import StopMode
from wpg.hardware_bridge.session import run_policy

ENOUGH = 0.9
"""If a run reaches a smaller share of its goals than this, a line says how to find out why."""


def run(
    policy: PolicyPath,
    *,
    robot: str,
    link: str,
    duration: float | None = None,
    goals: int | None = None,
    goal: tuple[float, float, float] | None = None,
    seed: int = 0,
    particles: int | None = None,
    stop: Literal["hold", "damp", "release"] = "hold",
    cpu: int | None = None,
    source: SourceOption = (),
    source_key: SourceKeyFile = None,
    put_back: PutBackMode | None = None,
    safety: SafetyFile = None,
    key: KeyFile = None,
    calibration: CalibrationFile = None,
    artifact_key: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    log: Annotated[Path | None, tyro.conf.arg(metavar="run.mcap")] = None,
    json: JsonFile = None,
) -> None:
    """Run a policy on a robot until its goals, its time or SIGTERM end it.

    The artifact's golden vectors are verified, and its contract checked against the robot, before torque is
    enabled. However the run ends, the arm is first brought to rest. The space bar is an emergency stop on a
    terminal; SIGQUIT or a second SIGINT is one anywhere.

    Args:
        robot: A robot's name or the path of its .toml file.
        link: Where the robot is: serial:///dev/ttyUSB0?baudrate=1000000, udp://HOST:PORT, tcp://HOST:PORT,
            fci://HOST, lerobot:TYPE?port=/dev/ttyACM0; `wpg list` shows every kind.
        duration: End after this many seconds.
        goals: Number of goals to try, drawn from the box that the policy was trained on.
        goal: The goal to try, x y z of the tool or the object in the base frame, m: once, or --goals times.
        seed: Seed of the goals and of the sampler's noise.
        particles: Particles drawn at each policy step; by default the contract's number.
        stop: How the arm is left: holding, sinking slowly, or without torque; refused if the robot cannot do
            it.
        cpu: Core to pin the loop to.
        put_back: What to do when the object is where no goal can begin and the arm has moved out of the way:
            ask the operator to put it back, wait without asking, or end the run; by default ask on a
            terminal, else end.
        artifact_key: Refuse a policy that was not signed with this key (`wpg export --sign-key`).
        log: Write a run log, which Foxglove and PlotJuggler can open.
    """
    if duration is None and goals is None and goal is None:
        raise UsageError("how long? give --goals, --goal or --duration")
    require_at_least(0, seed=seed, cpu=cpu)
    require_at_least(1, particles=particles)
    limits = safety_of(safety)
    try:
        config = LoopConfig(
            goals=goals,
            goal=goal,
            duration_s=duration,
            seed=seed,
            final_stop=StopMode[stop.upper()],
            safety=limits,
        )
    except ValueError as error:
        raise usage_error(error, duration_s="duration") from error
    artifact = load_policy(policy, artifact_key)
    prepare_outputs(json, log, inputs=(policy, robot, source_key, safety, key, calibration, artifact_key))
    driver = robot_at(link, load_description(robot), key=key, calibration=calibration)
    console = terminal()
    sources = link_sources(source, source_key)
    with keys_of_terminal(console) as keys:
        report = run_policy(
            artifact,
            driver,
            config,
            noise_seed=seed,
            num_particles=particles,
            log=log,
            realtime_config=RealtimeConfig(cpu=cpu),
            emergency=stop_by(keys),
            sources=sources,
            put_back=put_back_by(put_back, keys, console),
        )
        faults = []
        try:
            # Before the terminal's mode is restored, which fails if the terminal is gone.
            write_json(json, report)
        except CommandError as error:
            faults.append(str(error))
    _show(report, goals, console)
    if report.successes < ENOUGH * report.goals:
        options = {} if log else {"--key": key, "--calibration": calibration, "--safety": safety}
        given = {"--robot": robot, "--to": log or link, **options}
        if told := _transfer(policy, artifact.contract, given):
            console.print(f"what limits it: {told}", soft_wrap=True)
    if not report.completed:
        faults.append(f"the run ended by {report.end_reason}: {report.message}")
    if report.log_error:
        faults.append(f"the run log is not whole: {report.log_error}")
    if faults:
        raise CommandError("; ".join(faults))
    if report.end_reason == "stopped":
        raise KeyboardInterrupt(f"the run ended before its time: {report.message}")


def _transfer(policy: Path, contract: Contract, options: Mapping[str, Path | str | None]) -> str:
    """The command that finds out what limits a policy on a robot; empty if there is none."""
    own_id = contract.provenance.env_id
    if why_not_on_robot(contract.interface):
        return ""
    try:
        from wpg.sim_envs.registration import task_of  # noqa: PLC0415
    except ModuleNotFoundError:  # the bare bridge has no simulator to compare with
        return ""
    if task_of(own_id) is None:
        return ""
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(("wpg", "transfer", str(policy), "--from", own_id, *words))


def _show(report: RunReport, asked: int | None, console: Console) -> None:
    """Print the report of a run of which ``asked`` goals were asked for, if it was a number of goals."""
    for warning in report.warnings:
        console.print(remark("warning", warning))
    # After an error of the log the count is too low; the error itself is printed above.
    if report.log_dropped and not report.log_error:
        console.print(remark("warning", f"the run log could not take {report.log_dropped:,} records"))
    table = Table(show_header=False, box=None, padding=(0, 2))
    late, policy = report.lateness_us, report.policy_us
    table.add_row("ended by", report.end_reason)
    if report.goals or asked:
        missing = "" if asked in (None, report.goals) else f" tried, {asked} asked for"
        table.add_row("goals reached", f"{report.successes} of {report.goals}{missing}")
    table.add_row("rate", f"{report.rate_hz:.1f} Hz, {report.ticks:,} ticks in {report.duration_s:.1f} s")
    table.add_row(
        "lateness", f"p50 {late.p50:.0f}  p99 {late.p99:.0f}  p99.9 {late.p999:.0f}  max {late.max:.0f} µs"
    )
    table.add_row("policy", f"p50 {policy.p50:.0f}  p99 {policy.p99:.0f}  max {policy.max:.0f} µs")
    if report.homings:
        table.add_row("went home first", f"{report.homings} times")
    if report.put_backs:
        table.add_row("object put back", f"{report.put_backs} times")
    for source in report.sources:
        drops = ", ".join(f"{name} {times}" for name, times in source.drops.items())
        age = f"{source.age_us.p50 / 1e3:.0f} ms old, at most {source.age_us.max / 1e3:.0f} ms"
        table.add_row(source.name, f"{source.readings:,} readings, {age}; refused: {drops or 'none'}")
    table.add_row("missed deadlines", str(report.missed_deadlines))
    events = dict(report.safety_events)
    if stale := events.pop("stale_read", 0):
        table.add_row("stale reads", f"{stale:,}, each replaced by the last good state")
    shown = ", ".join(f"{name} {count}" for name, count in events.items())
    table.add_row("safety events", shown or "none")
    table.add_row("limit violations", str(report.limit_violations))
    console.print(table)
