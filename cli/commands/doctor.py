"""``wpg doctor``: is this machine ready to run a robot?"""

from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table
from rich.text import Text

from wpg.cli.options import JsonFile, prepare_outputs, write_json
from wpg.cli.policies import load_policy
from wpg.cli.terminal import terminal
from wpg.hardware_bridge.doctor import diagnose, sources_needed


def doctor(
    *, policy: Annotated[Path | None, tyro.conf.arg(metavar="POLICY")] = None, json: JsonFile = None
) -> None:
    """Check real-time rights, kernel, clock, cores, ports and versions; every finding comes with its fix.

    Args:
        policy: Also list what this policy needs besides the robot.
    """
    prepare_outputs(json, inputs=(policy,))
    findings = diagnose()
    if policy is not None:
        findings.append(sources_needed(load_policy(policy).contract.interface))
    table = Table(box=None, padding=(0, 1))
    for title in ("", "looked at", "found", "to mend it"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        mark = Text("✓", "green") if finding.ok else Text("!", "yellow")
        table.add_row(mark, finding.name, finding.detail, finding.fix)
    terminal().print(table)
    write_json(json, findings)
