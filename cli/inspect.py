"""``wpg inspect``: an artefact's contract, readable, and its golden vectors replayed."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from wpg.cli.options import ArtifactPath
from wpg.export.description import describe
from wpg.export.reader import load_artifact


def inspect(file: ArtifactPath, *, json: bool = False) -> None:
    """Show what a policy was trained to see and to command, and check that this machine computes it alike.

    Args:
        json: Print the contract as JSON, with golden_max_abs_error.
    """
    artifact = load_artifact(file)
    error = artifact.verify_golden()
    if json:
        contract: dict[str, Any] = msgspec.to_builtins(artifact.contract)
        print(
            msgspec.json.encode(
                {**contract, "digest": artifact.digest, "golden_max_abs_error": error}
            ).decode()
        )
        return
    console = Console()
    for section in describe(artifact.contract):
        table = Table(title=section.title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True)
        for name, value in section.rows:
            table.add_row(name, value)
        console.print(table)
        console.print()
    console.print(f"whole: SHA-256 {artifact.digest}")
    console.print(f"golden vectors replayed here: largest error {error:.2g}")
