"""``wpg identify``: how an arm differs from its model, from a run log or from a test motion."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
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
    refuse_existing,
    require_at_least,
    write_json,
)
from wpg.cli.robots import robot_at, safety_of, stoppable
from wpg.cli.terminal import remark, terminal
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.drivers import is_link
from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.motions.excitation import ExcitationPlan, excitation
from wpg.hardware_bridge.motions.playing import play_path
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.robot import Robot
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import read_log

if TYPE_CHECKING:
    from wpg.sim_envs.identification.identify import Identification


def identify(
    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")] = None,
    *,
    robot: str,
    link: str | None = None,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.toml")] = Path("actuators.toml"),
    log: Annotated[Path | None, tyro.conf.arg(metavar="excitation.mcap")] = None,
    seed: int = 0,
    safety: SafetyFile = None,
    key: KeyFile = None,
    calibration: CalibrationFile = None,
    json: JsonFile = None,
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
) -> None:
    """Identify an arm's delay, lag, gains, friction, payload and offsets for `wpg train --actuators`.

    Uses a run log or, with --link, a motion of about 30 s in which every joint moves around its home: keep
    the workspace clear. Parameters that the data cannot determine are named, and left out of the file.

    Args:
        source: A run log (.mcap) of `wpg run --log` or of this command.
        robot: A robot's name or the path of its .toml file.
        link: Where the robot is, as for `wpg run`; it will move.
        out: The file that `wpg train --actuators` and `wpg emulate --actuators` read; it must not exist.
        log: Where to keep the log of the motion; by default next to --out, as .mcap.
        seed: Seed of the motion.
        html: Write a report that compares the fitted and the unfitted simulator.
    """
    from wpg.sim_envs.effects import effects_toml  # noqa: PLC0415
    from wpg.sim_envs.identification.identify import identify as identify_recording  # noqa: PLC0415  needs scipy and mujoco
    from wpg.sim_envs.identification.recording import recording_of  # noqa: PLC0415

    require_at_least(0, seed=seed)
    description, console = load_description(robot), terminal()
    if source is not None and is_link(source):
        source, link = None, source
    if (source is None) == (link is None):
        raise UsageError("from what? give a run log, or --link of a robot that shall move")
    if link is None and any(option is not None for option in (log, safety, key, calibration)):
        raise UsageError(
            "--log, --safety, --key and --calibration are for a robot that shall move: give --link"
        )
    refuse_existing(out, "--out")
    recorded = Path(source) if source is not None else log or out.with_suffix(".mcap")
    if link is not None:
        refuse_existing(recorded, "--log")
    made = None if link is None else recorded
    prepare_outputs(out, json, html, made, inputs=(source, robot, safety, key, calibration))
    limits = safety_of(safety)
    if link is not None:
        driver = robot_at(link, description, key=key, calibration=calibration)
        _record(driver, recorded, seed, limits, console)
    again = shlex.join(("wpg", "identify", str(recorded), "--robot", robot, "--out", str(out)))
    with nullcontext() if link is None else _telling(f"the motion is kept, fit it again: {again}"):
        recording = recording_of(read_log(recorded), description)
        console.print(
            f"fitting the simulator to {recording.time_s[-1]:.0f} s of {description.title}; takes minutes …",
            soft_wrap=True,
        )
        found, comparison = identify_recording(description, recording)
        out.write_text(effects_toml(found.effects))
    _show(found, console)
    other = () if robot == "panda" else ("--robot", robot)
    command = shlex.join(("wpg", "train", "wpg/PandaReach-v0", *other, "--actuators", str(out)))
    console.print(f"wrote {out}; next: {command}", soft_wrap=True)
    write_json(json, found)
    if html is not None:
        from wpg.cli.identify_report import write_identify_report  # noqa: PLC0415  needs matplotlib

        write_identify_report(html, found, comparison, description, origin=source or link or "")


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Add something to every error that is reported to the user."""
    from wpg.sim_envs.errors import IdentificationError  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*interrupt.args, what) from interrupt
    except (IdentificationError, LogError, CommandError, OSError) as error:
        raise CommandError(f"{error}; {what}") from error


def _record(robot: Robot, path: Path, seed: int, safety: SafetyConfig, console: Console) -> None:
    """Run the test motion and log it; the log of a failed motion is removed."""
    description = robot.description
    motion = excitation(description, ExcitationPlan(seed=seed), safety)
    seconds = len(motion.joint_pos) * description.servo_dt_s
    run_log = RunLog(
        path,
        {
            "robot": description.name,
            "servo_rate_hz": repr(description.servo_rate_hz),
            "excitation_seed": str(seed),
        },
        {"description.json": msgspec.json.encode(description)},
    )
    console.print(f"{description.title} goes home, then moves around it for {seconds:.0f} s …")
    try:
        with (
            stoppable(console) as (emergency, should_stop),
            realtime(RealtimeConfig()) as warnings,
        ):
            violations = play_path(
                robot, motion, run_log, safety=safety, should_stop=should_stop, emergency=emergency
            )
    except BaseException:
        run_log.close()
        path.unlink(missing_ok=True)
        raise
    run_log.close()
    for warning in warnings:
        console.print(remark("warning", warning))
    if run_log.error or run_log.dropped:
        fault = run_log.error or f"{path}: {run_log.dropped} records lost"
        raise CommandError(f"the run log is not whole: {fault}")
    console.print(f"recorded in {path}; {violations} commands outside the limits", soft_wrap=True)


def _show(found: "Identification", console: Console) -> None:
    from wpg.cli.quantities import SHOWN, as_shown, value_and_interval  # noqa: PLC0415  needs a simulator

    table, above = Table(box=None, padding=(0, 1)), ""
    for title in ("quantity", "joint", "value", "95 % interval"):
        justify: Literal["left", "right"] = "left" if title in ("quantity", "joint") else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for quantity in found.quantities:
        shown = SHOWN[quantity.field]
        heading = "" if shown.name == above else f"{shown.name}, {shown.unit}"
        table.add_row(heading, quantity.joint or "", *value_and_interval(quantity))
        above = shown.name
    for field, value in found.noise.items():
        table.add_row(f"{SHOWN[field].name}, {SHOWN[field].unit}", "", as_shown(field, value), "")
    console.print(table)
    for field, joints in found.unknown.items():
        console.print(remark("cannot be told", f"{SHOWN[field].name} {', '.join(joints)}"))
    fitted, unfitted = (1e3 * found.mae_rad(which) for which in ("fitted", "unfitted"))
    console.print(
        f"{found.held_out_s:.0f} s held out: "
        f"mean error {fitted:.2f} mrad with these figures, {unfitted:.2f} mrad without"
    )
