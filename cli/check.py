"""``wpg check``: one small move per joint, before a policy may move the robot."""

from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from wpg.cli.options import (
    CalibrationFile,
    CommandError,
    JsonFile,
    KeyFile,
    UsageError,
    prepare_outputs,
    write_json,
)
from wpg.cli.robots import robot_at
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.joint_check import check_joints

LARGEST_TRAVEL_RAD = 0.2
"""Beyond this a move is not small any more."""


def check(
    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")],
    *,
    link: str,
    travel: float = 0.05,
    key: KeyFile = None,
    calibration: CalibrationFile = None,
    json: JsonFile = None,
) -> None:
    """Move every joint a little and back, and compare order, sign, scale, lag and noise with the description.

    Args:
        robot: A robot's name or the path of its .toml file.
        link: Where the robot is, as for `wpg run`.
        travel: How far each joint moves, rad; 0.2 at most.
    """
    if not 0 < travel <= LARGEST_TRAVEL_RAD:
        raise UsageError(
            f"--travel: expected more than 0 and at most {LARGEST_TRAVEL_RAD} rad, found {travel:g}"
        )
    prepare_outputs(json)
    driver = robot_at(link, load_description(robot), key=key, calibration=calibration)
    checks = check_joints(driver, travel_rad=travel)
    write_json(json, checks)
    table = Table(box=None, padding=(0, 2))
    for title in ("joint", "scale", "lag, ms", "noise, mrad", "verdict"):
        table.add_column(title, justify="left" if title in ("joint", "verdict") else "right")
    for joint in checks:
        verdict = "[green]as described[/green]" if joint.ok else f"[red]{joint.fault}[/red]"
        row = (f"{joint.scale:.3f}", f"{1e3 * joint.lag_s:.0f}", f"{1e3 * joint.noise_rad:.3f}")
        table.add_row(joint.joint, *row, verdict)
    Console().print(table)
    if not all(joint.ok for joint in checks):
        raise CommandError(f"{robot} does not do what its description says; no policy should move it")
