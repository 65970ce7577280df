"""Writes results as rows, one line of JSON each, with the machine that they were measured on."""

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def append(path: Path, row: dict[str, Any]) -> None:
    """Write a row to the end of a file, which is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write these rows, replacing the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def machine() -> dict[str, str]:
    """Columns for the machine that a row was measured on, with the features that matter most for speed."""
    flags = Path("/proc/cpuinfo")
    bfloat16 = flags.exists() and "avx512_bf16" in flags.read_text()
    return {
        "machine": f"{platform.machine()}{', bfloat16' if bfloat16 else ''}",
        "python": platform.python_version(),
    }
