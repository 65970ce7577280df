"""Reads and shows the results of `transfer.py`: the file, and tables and picture of docs/transfer.md."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from identification import hidden_arm
from numpy.typing import NDArray
from rows import append

from wpg.cli.figures import BLUE, GREEN, GREY, new_figure, styled
from wpg.cli.transfer.paired_tests import mmrv, pearson_r

OUT = Path("benchmarks/results/transfer.jsonl")
PLACES = {
    "plain": "unfitted",
    "fitted": "fitted",
    "true": "true parameters",
    "again": "the robot, tried again",
}
EXPERIMENTS = 500
Row = dict[str, Any]


class Book:
    """The lines of one step in the file of results."""

    def __init__(self, path: Path, step: str) -> None:
        self._path = path
        self._step = step
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines()]
        self.rows: list[Row] = [line for line in lines if line["step"] == step]

    def has(self, **fields: object) -> bool:
        """Whether a line has these fields."""
        return any(all(row.get(name) == value for name, value in fields.items()) for row in self.rows)

    def add(self, **fields: object) -> None:
        """Append a line."""
        row = {"step": self._step, **fields}
        self.rows.append(row)
        append(self._path, row)
        print(json.dumps(row)[:200], flush=True)


def rate(found: str) -> float:
    """Share of ones."""
    return found.count("1") / len(found)


def show(out: Path = OUT, picture: Path | None = None) -> None:
    """Print the tables of docs/transfer.md, and draw predicted against measured success."""
    ranked = Book(out, "rank").rows
    _show_rank(ranked)
    _show_sequential(Book(out, "sequential").rows)
    _show_wire(Book(out, "wire").rows)
    _show_retrain(Book(out, "retrain").rows)
    _show_randomise(Book(out, "randomise").rows)
    if picture is not None:
        _draw_rank(ranked, picture)


def _show_rank(rows: Sequence[Row]) -> None:
    print("\n| hidden robot | policies | prediction | r | MMRV | mean error, points | largest |")
    print("|---|---|---|---|---|---|---|")
    for robot in (*sorted({row["robot"] for row in rows}), None):
        own = [row for row in rows if robot in (None, row["robot"])]
        label = "all" if robot is None else robot
        measured = _rates(own, "hidden")
        for place, name in PLACES.items():
            if place not in own[0]["outcomes"]:
                continue
            predicted = _rates(own, place)
            error = 100 * np.abs(predicted - measured)
            print(
                f"| {label} | {len(own)} | {name} | {_number(pearson_r(predicted, measured))} "
                f"| {_number(mmrv(predicted, measured))} | {error.mean():.1f} | {error.max():.0f} |"
            )
        chance = _chance_alone((measured + _rates(own, "again")) / 2, own[0]["trials"])
        print(f"| {label} | {len(own)} | chance alone | {' | '.join(chance)} |")


def _rates(rows: Sequence[Row], place: str) -> NDArray[np.float64]:
    """(N,) success of every row's policy in a place."""
    return np.array([rate(row["outcomes"][place]) for row in rows])


def _chance_alone(rates: NDArray[np.float64], trials: int) -> tuple[str, str, str, str]:
    """A perfect prediction, where both sides are counted in so many trials of their own.

    Args:
        rates: (N,) true success of the policies.
        trials: of each policy on each side.

    Returns:
        medians of r, MMRV, and mean and largest absolute error in points.
    """
    drawn = np.random.default_rng(0).binomial(trials, rates, (EXPERIMENTS, 2, len(rates))) / trials
    errors = 100 * np.abs(drawn[:, 0] - drawn[:, 1])
    r = np.median([pearson_r(*pair) or 0.0 for pair in drawn])
    violation = np.median([mmrv(*pair) or 0.0 for pair in drawn])
    mean, largest = np.median(errors.mean(1)), np.median(errors.max(1))
    return f"{r:.3f}", f"{violation:.3f}", f"{mean:.1f}", f"{largest:.0f}"


def _show_sequential(rows: Sequence[Row]) -> None:
    exact = [row for row in rows if "rate" in row]
    print("\n| question | true rate | fixed size | sequential, mean | fewer | says it works |")
    print("|---|---|---|---|---|---|")
    for row in exact:
        print(
            f"| {row['low']:g} or {row['high']:g} | {row['rate']:g} | {row['fixed']} | {row['trials']:.1f} "
            f"| {1 - row['trials'] / row['fixed']:.0%} | {row['works']:.3f} |"
        )
    real = [row for row in rows if "policy" in row]
    for name, own in (("true rates", exact), ("measured policies", real)):
        if own:
            fewer = [1 - row["trials"] / row["fixed"] for row in own]
            print(f"\n{name}: {np.mean(fewer):.0%} fewer in the mean, {min(fewer):.0%} at the least")


def _show_wire(rows: Sequence[Row]) -> None:
    print("\n| hidden robot | place | reached | true simulator | joint gap |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['robot']} | {row['place']} | {row['success']:.0%} of {row['trials']} "
            f"| {row['predicted']:.0%} | {1000 * row['joint_gap_rad']:.1f} mrad |"
        )


def _show_retrain(rows: Sequence[Row]) -> None:
    print("\n| hidden robot | delay | before: unfitted | fitted | robot | after: unfitted | fitted | robot |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        delay_ms = 1000 * hidden_arm(row["robot"]).delay_range_s()[0]
        shares = [row[when][place] for when in ("before", "after") for place in ("plain", "fitted", "hidden")]
        print(f"| {row['robot']} | {delay_ms:.0f} ms | {' | '.join(f'{share:.0%}' for share in shares)} |")
    for when in ("before", "after") if rows else ():
        robot = np.array([row[when]["hidden"] for row in rows])
        gaps = {place: [row[when][place] for row in rows] - robot for place in ("plain", "fitted")}
        medians = ", ".join(f"{100 * np.median(np.abs(gap)):.1f} ({name})" for name, gap in gaps.items())
        print(f"\n{when}: median success {np.median(robot):.0%}, median gap to simulation {medians} points")


def _show_randomise(rows: Sequence[Row]) -> None:
    print("\n| trained on | simulation | robots: median | worst |")
    print("|---|---|---|---|")
    for varied in dict.fromkeys(row["varied"] for row in rows):
        own = [row for row in rows if row["varied"] == varied]
        robot = [row["hidden"] for row in own]
        simulated = np.mean([row["simulated"] for row in own])
        print(f"| {varied} | {simulated:.0%} | {np.median(robot):.1%} | {min(robot):.0%} |")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


@styled
def _draw_rank(rows: Sequence[Row], picture: Path) -> None:
    """Measured over predicted success, a plot a robot, a point a policy."""
    robots = sorted({row["robot"] for row in rows})
    figure = new_figure(3.1 * len(robots), 3.6)
    places = {
        "plain": ("unfitted simulator", GREY),
        "fitted": ("fitted simulator", BLUE),
        "again": ("the robot, tried again", GREEN),
    }
    for place, robot in enumerate(robots):
        own = [row for row in rows if row["robot"] == robot]
        measured = 100 * _rates(own, "hidden")
        delay_ms = 1000 * hidden_arm(robot).delay_range_s()[0]
        axes = figure.add_subplot(1, len(robots), place + 1)
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
        for name, (label, colour) in places.items():
            axes.plot(
                100 * _rates(own, name), measured, "o", color=colour, label=label, markersize=4, alpha=0.8
            )
        axes.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", xlabel="predicted success, %")
        axes.set_title(f"hidden robot {robot}, {delay_ms:.0f} ms late")
    figure.axes[0].set_ylabel("measured success, %")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    figure.savefig(picture, dpi=110)
