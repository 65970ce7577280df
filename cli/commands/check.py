"""``wpg check``: one small move per joint, before a policy may move the robot."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wpg.cli.options import (
    CalibrationFile,
    CommandError,
    JsonFile,
    KeyFile,
    SafetyFile,
    UsageError,
    prepare_outputs,
    write_json,
)
from wpg.cli.policies import load_policy
from wpg.cli.robots import robot_at, safety_of, stoppable
from wpg.cli.sources import SourceKeyFile, SourceOption, link_sources
from wpg.cli.terminal import remark, terminal
from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.control.checks import check_interface, check_stop
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.motions.joint_check import JointCheck, check_joints
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.robot import Robot, StopMode, notices_of
from wpg.hardware_bridge.servos.robot import ServoRobot
from wpg.hardware_bridge.sources.check import TermCheck, watch_sources
from wpg.hardware_bridge.sources.link import LinkSource

LARGEST_TRAVEL_RAD = 0.2
"""Limit of --travel: larger moves are not small."""


def check(
    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")],
    *,
    link: str,
    travel: float = 0.05,
    policy: Annotated[Path | None, tyro.conf.arg(metavar="POLICY")] = None,
    source: SourceOption = (),
    source_key: SourceKeyFile = None,
    key: KeyFile = None,
    calibration: CalibrationFile = None,
    safety: SafetyFile = None,
    stop: Literal["hold", "damp", "release"] = "hold",
    set_limits: bool = False,
    json: JsonFile = None,
) -> None:
    """Move every joint a little and back, and compare order, sign, scale, lag and noise with the description.

    Nothing moves where `wpg run` would refuse to arm the robot. A gripper does not move. On a terminal the
    space bar is an emergency stop. With a policy, first check whether it fits the robot, and receive the
    sources that it needs.

    Args:
        robot: A robot's name or the path of its .toml file.
        link: Where the robot is, as for `wpg run`.
        travel: Motion of each joint, rad; 0.2 at most.
        policy: The policy to be run later; give its sources with --source, as for `wpg run`.
        stop: How the arm is left: holding, sinking slowly, or without torque; refused if the robot cannot do
            it.
        set_limits: First write the joints' limits permanently to Dynamixel servos that would accept goals
            beyond them. The arm must be without torque: support it, and release it with --stop release in a
            check before this one.
    """
    if not 0 < travel <= LARGEST_TRAVEL_RAD:
        raise UsageError(
            f"--travel: expected more than 0 and at most {LARGEST_TRAVEL_RAD} rad, found {travel:g}"
        )
    if policy is None and source:
        raise UsageError("--source: for which policy? give --policy")
    prepare_outputs(json, inputs=(robot, policy, source_key, safety, key, calibration))
    limits = safety_of(safety)
    description = load_description(robot)
    console = terminal()
    driver = robot_at(link, description, key=key, calibration=calibration)
    interface = None if policy is None else load_policy(policy).contract.interface
    terms = []
    if interface is not None:
        sources = link_sources(source, source_key)
        terms = _check_policy(interface, description, sources, limits.source_stale_s)
    _show_terms(terms, console)
    if set_limits:
        _set_limits(driver, StopMode[stop.upper()], console)
    with stoppable(console) as (emergency, should_stop), realtime(RealtimeConfig()) as warnings:
        checks = check_joints(
            driver,
            travel_rad=travel,
            interface=interface,
            safety=limits,
            should_stop=should_stop,
            emergency=emergency,
            final_stop=StopMode[stop.upper()],
        )
    _show_joints(checks, console)
    if description.gripper is not None:
        console.print("The gripper was left as it is: try it by hand, with nothing between its fingers.")
    for warning in warnings:
        console.print(remark("warning", warning))
    for notice in notices_of(driver):
        console.print(remark("notice", notice))
    write_json(json, {"joints": checks, "sources": terms, "notices": notices_of(driver)})
    if not all(joint.ok for joint in checks):
        raise CommandError(f"{robot} does not do what its description says; no policy should move it")
    for term in terms:
        if not term.ok:
            raise CommandError(f"source of {term.term}: {term.fault}")


def _check_policy(
    interface: PolicyInterface, description: RobotDescription, sources: list[LinkSource], stale_s: float
) -> list[TermCheck]:
    check_interface(interface, description, [name for source in sources for name in source.terms])
    return watch_sources(interface, sources, stale_s=stale_s)


def _set_limits(driver: Robot, stop: StopMode, console: Console) -> None:
    if not isinstance(driver, ServoRobot):
        raise CommandError("--set-limits: expected an arm on a servo bus, this one has a controller")
    # What would end the check afterwards ends it before anything is written for good.
    check_stop(driver, stop)
    driver.connect()
    try:
        changed = driver.keep_limits()
        for line in changed or ["nothing to write: the servos keep their joints' limits, or are told them"]:
            console.print(line)
    finally:
        driver.close()


def _show_terms(terms: list[TermCheck], console: Console) -> None:
    if not terms:
        return
    table = Table(box=None, padding=(0, 2))
    for title in ("term", "rate, Hz", "oldest, ms", "noise", "mean", "verdict"):
        table.add_column(title)
    for term in terms:
        mean = " ".join(f"{number:.3f}" for number in term.value)
        verdict = Text("well fed", "green") if term.ok else Text(term.fault, "red")
        row = (f"{term.rate_hz:.0f}", f"{term.age_ms_max:.0f}", f"{term.noise:.2g}", mean)
        table.add_row(term.term, *row, verdict)
    console.print(table)


def _show_joints(checks: list[JointCheck], console: Console) -> None:
    table = Table(box=None, padding=(0, 2))
    for title in ("joint", "scale", "lag, ms", "noise, mrad", "verdict"):
        table.add_column(title, justify="left" if title in ("joint", "verdict") else "right")
    for joint in checks:
        verdict = Text("as described", "green") if joint.ok else Text(joint.fault, "red")
        row = (f"{joint.scale:.3f}", f"{1e3 * joint.lag_s:.0f}", f"{1e3 * joint.noise_rad:.3f}")
        table.add_row(joint.joint, *row, verdict)
    console.print(table)
