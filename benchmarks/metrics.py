"""Reads the metrics of a training."""

import csv
from pathlib import Path
from typing import Protocol


class Trained(Protocol):
    """What `wpg.controllers.train` returns; its type would not load where only the peers are installed."""

    folder: Path
    train_seconds: float
    eval_seconds: float


def evaluations(result: Trained, column: str) -> list[tuple[int, float, float]]:
    """Steps, value of the column, and seconds of training, for every evaluation in metrics.csv.

    metrics.csv counts all seconds; the share of training in them is taken to be constant.
    """
    share = result.train_seconds / (result.train_seconds + result.eval_seconds)
    with (result.folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[column]]
    return [(int(row["step"]), float(row[column]), float(row["seconds"]) * share) for row in rows]
