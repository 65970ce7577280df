"""``wpg inspect``: shows an artifact's contract, and replays its golden vectors."""

from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from wpg.cli.policies import PolicyPath, load_policy
from wpg.cli.terminal import terminal
from wpg.export.description import describe


def inspect(policy: PolicyPath, *, key: Path | None = None, json: bool = False) -> None:
    """Show a policy's observations and commands, and check that this machine reproduces its golden vectors.

    Args:
        key: Key file that the policy must have been signed with.
        json: Print the contract as JSON, with digest, signed, golden_max_abs_error (the largest error of any
            output, in the output's unit) and sources (the terms that `wpg run` needs a --source for).
    """
    artifact = load_policy(policy, key)
    error = artifact.verify_golden()
    if json:
        contract: dict[str, Any] = msgspec.to_builtins(artifact.contract)
        found: dict[str, Any] = {
            "digest": artifact.digest,
            "signed": artifact.signed,
            "golden_max_abs_error": error,
        }
        sources = artifact.contract.interface.external
        print(msgspec.json.encode({**contract, **found, "sources": sources}).decode())
        return
    console = terminal()
    for section in describe(artifact.contract):
        table = Table(title=section.title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True)
        for name, value in section.rows:
            table.add_row(name, value)
        console.print(table)
        console.print()
    console.print(f"whole: SHA-256 {artifact.digest}", soft_wrap=True)
    if artifact.signed:
        console.print("signed" + (", with the given key" if key else ": --key FILE checks with which key"))
    console.print(f"golden vectors replayed here: largest error {error:.2g}")
