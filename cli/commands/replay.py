"""``wpg replay``: checks that an artifact reproduces the decisions in a run log bit for bit."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wpg.cli.options import CommandError, JsonFile, LogPath, prepare_outputs, write_json
from wpg.cli.policies import load_policy
from wpg.cli.terminal import terminal
from wpg.hardware_bridge.replay import Replay, logged_artifact
from wpg.hardware_bridge.replay import replay as replay_log
from wpg.hardware_bridge.run_log.reader import read_log


def replay(
    log: LogPath,
    *,
    policy: Annotated[Path | None, tyro.conf.arg(metavar="POLICY")] = None,
    json: JsonFile = None,
) -> None:
    """Feed the logged states and noise to the artifact, which must reproduce its decisions bit for bit.

    Args:
        policy: The artifact of the run, a file or a run folder; by default the copy in the log.
    """
    prepare_outputs(json, inputs=(log, policy))
    recording = read_log(log)
    artifact = logged_artifact(recording, log) if policy is None else load_policy(policy)
    found = replay_log(recording, artifact)
    _show(found, terminal())
    write_json(json, found)
    if (first := found.first_difference) is not None:
        raise CommandError(
            f"{log}: decision {first.decision} at {first.time_s:.3f} s: {first.quantity}[{first.index}]: "
            f"the log has {first.logged!r}, the replay {first.replayed!r}"
        )


def _show(found: Replay, console: Console) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("artifact", f"SHA-256 {found.policy_sha256[:16]}…")
    cut = Text("ends in the middle; replayed up to there", "yellow")
    table.add_row("log", "whole" if found.complete else cut)
    table.add_row("ticks", f"{found.ticks:,}")
    table.add_row(
        "decisions", f"{found.decisions:,}" + (f", {found.missing} more lost" * bool(found.missing))
    )
    unchecked = f", {found.actions_unchecked} unchecked" * bool(found.actions_unchecked)
    table.add_row("actions", f"{found.equal:,} equal, {found.unequal} unequal{unchecked}")
    unchecked = f", {found.observations_unchecked} unchecked" * bool(found.observations_unchecked)
    table.add_row(
        "observations", f"{found.observations_equal:,} equal, {found.observations_unequal} unequal{unchecked}"
    )
    if found.unequal:
        table.add_row("largest action error", f"{found.action_error_max:.3g}")
    console.print(table)
