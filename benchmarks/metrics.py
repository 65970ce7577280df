"""What a training has written down of itself."""

import csv
from pathlib import Path
from typing import Protocol


class Trained(Protocol):
    """What `wpg.controllers.train` returns; its type would not load where only the peers are installed."""

    folder: Path
    train_seconds: float
    eval_seconds: float


def evaluations(result: Trained, column: str) -> list[tuple[int, float, float]]:
    """Of every evaluation in metrics.csv: steps before it, the column's value, and seconds of training.

    metrics.csv counts all seconds; those of training are taken to be the same share of them throughout.
    """
    share = result.train_seconds / (result.train_seconds + result.eval_seconds)
    with (result.folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[column]]
    return [(int(row["step"]), float(row[column]), float(row["seconds"]) * share) for row in rows]
