"""The plot of a training run: the columns of metrics.csv over the environment steps."""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PLOT_NAME = "training.png"


def plot_training(folder: Path) -> None:
    """Draw `training.png` from the run folder's metrics.csv: return, success, temperature, spread."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(10, 6), layout="constrained")
    ((returns, success), (temperature, spread)) = figure.subplots(2, 2, sharex=True)
    _line(returns, rows, "return_mean", "training, last 20 episodes")
    _line(returns, rows, "eval_return", "evaluation", marker="o")
    returns.set_ylabel("return")
    _line(success, rows, "success_rate", "training, last 20 episodes")
    _line(success, rows, "eval_success", "evaluation", marker="o")
    success.set(ylabel="success rate", ylim=(-0.03, 1.03))
    _line(temperature, rows, "tau")
    temperature.set(ylabel="temperature τ", yscale="log", xlabel="environment steps")
    _line(spread, rows, "particle_spread")
    spread.set(ylabel="spread of the particles", xlabel="environment steps")
    for axes in (returns, success, temperature, spread):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend()
    if not success.lines:
        success.text(
            0.5, 0.5, "this environment reports no success", ha="center", transform=success.transAxes
        )
    figure.savefig(folder / PLOT_NAME, dpi=100)


def _line(
    axes: Axes, rows: list[dict[str, str]], column: str, label: str | None = None, marker: str | None = None
) -> None:
    """Plot one column over the steps, in the rows where it has a value."""
    points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, label=label, marker=marker, markersize=4)
