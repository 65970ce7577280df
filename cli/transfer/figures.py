"""Figures of a transfer, as SVG text that is embedded in the page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from wpg.cli.figures import BLUE, GREEN, GREY, ORANGE, Bar, draw_success, new_figure, styled, svg
from wpg.cli.transfer.result import PolicyTransfer, Side
from wpg.cli.transfer.study import Study
from wpg.cli.transfer.trials import Trial
from wpg.hardware_bridge.robot import Vector

COLOURS = (BLUE, GREY)
"""Colours of the predicting and the unfitted simulator; place B is green."""
OUTCOMES = (
    ("reached in both", True, True, GREEN, "o"),
    ("missed in both", False, False, GREY, "X"),
    ("only simulation reaches it", True, False, ORANGE, "v"),
    ("only the robot reaches it", False, True, BLUE, "^"),
)
"""Label, outcome in simulation, outcome on B, colour, marker."""


@styled
def success(places: Sequence[Side]) -> str:
    """Success rates with 95 % intervals; B is the last bar."""
    figure = new_figure(5.6, 0.6 + 0.42 * len(places))
    axes = figure.add_subplot()
    colours = [*COLOURS[: len(places) - 1], GREEN]
    bars = [
        Bar(_short(place.place), place.success, place.success_ci95, f"{place.success:.0%}", colour)
        for place, colour in zip(places, colours, strict=True)
    ]
    draw_success(axes, bars)
    axes.set_xlabel("success, % (line: 95 % interval)")
    return svg(figure)


@styled
def course(study: Study) -> str:
    """Successes over trials, between the two boundaries at which the sequential test ends."""
    figure = new_figure(5.6, 3.0)
    axes = figure.add_subplot()
    test, outcomes = study.test, [trial.success for trial in study.tried]
    shown = np.arange(min(test.max_trials, max(len(outcomes), 20)) + 1)
    works, fails = (np.array(line)[shown] for line in (test.works_at, test.fails_at))
    within = works <= shown
    axes.plot(shown[within], works[within], color=GREEN, drawstyle="steps-mid")
    axes.fill_between(shown[within], works[within], shown[within], color=GREEN, alpha=0.15, label="it works")
    axes.fill_between(shown, 0, np.maximum(fails, 0), color=ORANGE, alpha=0.15, label="it does not")
    axes.plot(shown[fails >= 0], fails[fails >= 0], color=ORANGE, drawstyle="steps-mid")
    path = np.r_[0, np.cumsum(outcomes)]
    axes.plot(path, color="black", linewidth=1.4)
    if (decided := study.result.decided_after) is not None:
        axes.plot(decided, path[decided], "o", color="black", label=f"clear after {decided} trials")
    axes.set(xlim=(0, shown[-1]), ylim=(0, shown[-1]), xlabel="trials", ylabel="goals reached")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    axes.legend(frameon=False, loc="upper left")
    return svg(figure)


@styled
def errors(study: Study) -> str:
    """Distance from the goal over time: median and the middle 80 % of the trials."""
    figure = new_figure(5.6, 3.0)
    axes = figure.add_subplot()
    dt_s = study.interface.control_dt_s
    for simulation, colour in zip(study.simulations, COLOURS, strict=False):
        _band(axes, simulation.trials, dt_s, colour, simulation.label)
    _band(axes, study.tried, dt_s, GREEN, _short(study.result.to.place))
    axes.axhline(1000 * study.tolerance_m, color=ORANGE, linewidth=1, linestyle="--")
    axes.set(yscale="log", xlabel="seconds since the goal was given", ylabel="distance from the goal, mm")
    axes.legend(frameon=False)
    return svg(figure)


@styled
def parting(study: Study) -> str:
    """Distance between paired trials over time."""
    figure = new_figure(5.6, 2.6)
    axes = figure.add_subplot()
    for simulation, colour in zip(study.simulations, COLOURS, strict=False):
        parted = simulation.parting
        axes.plot(parted.time_s, 1000 * parted.median_m, color=colour, label=simulation.label)
        axes.fill_between(parted.time_s, 0, 1000 * parted.high_m, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(500 * study.tolerance_m, color=ORANGE, linewidth=1, linestyle="--")
    axes.set(xlabel="seconds since the goal was given", ylabel="apart, mm", ylim=(0, None))
    axes.legend(frameon=False)
    return svg(figure)


@styled
def places(study: Study) -> str:
    """Goals from above and from the side, marked by their outcomes in simulation and on B."""
    figure = new_figure(5.6, 3.4)
    goals = np.array([trial.goal_m for trial in study.tried])
    pairs = [
        (simulated.success, real.success)
        for simulated, real in zip(study.simulations[0].trials, study.tried, strict=True)
    ]
    for place, (vertical, name, title) in enumerate(((1, "y", "from above"), (2, "z", "from the side"))):
        axes = figure.add_subplot(1, 2, place + 1)
        for label, simulated, real, colour, marker in OUTCOMES:
            chosen = np.array([pair == (simulated, real) for pair in pairs])
            if chosen.any():
                axes.scatter(
                    goals[chosen, 0],
                    goals[chosen, vertical],
                    s=22,
                    color=colour,
                    marker=marker,
                    alpha=0.8,
                    label=f"{label}: {chosen.sum()}",
                )
        axes.set(xlabel="x, m", ylabel=f"{name}, m", title=title, aspect="equal")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return svg(figure)


@styled
def joints(study: Study) -> str:
    """Replay gap of each joint."""
    figure = new_figure(5.6, 2.6)
    axes = figure.add_subplot()
    agreements = [study.result.agreement, study.result.unfitted]
    present = [agreement for agreement in agreements if agreement is not None]
    width = 0.8 / len(present)
    for place, (agreement, colour) in enumerate(zip(present, COLOURS, strict=False)):
        gap = 1000 * np.array(agreement.joint_replay_rmse_rad)
        centres = np.arange(len(gap)) + (place - (len(present) - 1) / 2) * width
        axes.bar(centres, gap, width=width, color=colour, alpha=0.85, label=agreement.simulator.place)
    names = [spec.name for spec in study.interface.robot.joints] if study.interface.robot else []
    axes.set_xticks(range(len(names)), [name.removeprefix(f"{study.robot}_") for name in names], rotation=30)
    axes.set(ylabel="replay gap, mrad")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return svg(figure)


@styled
def ranking(results: Sequence[PolicyTransfer]) -> str:
    """Measured against predicted success, one point for each policy and simulator."""
    figure = new_figure(5.0, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
    for result in results:
        agreements = [result.agreement, result.unfitted]
        for agreement, colour in zip(agreements, COLOURS, strict=True):
            if agreement is not None:
                label = agreement.simulator.place if result is results[0] else None
                _point(axes, agreement.simulator, result.to, colour, label)
        name = Path(result.file).stem
        at = (100 * result.agreement.simulator.success, 100 * result.to.success)
        axes.annotate(name, at, textcoords="offset points", xytext=(5, -9), fontsize=7, color=GREY)
    axes.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal")
    axes.set(xlabel="success in simulation, %", ylabel=f"success on {_short(results[0].to.place)}, %")
    axes.legend(frameon=False, loc="upper left")
    return svg(figure)


def _point(axes: Axes, simulated: Side, real: Side, colour: str, label: str | None) -> None:
    x, y = 100 * simulated.success, 100 * real.success
    low, high = real.success_ci95
    axes.plot([x, x], [100 * low, 100 * high], color=colour, linewidth=0.8, alpha=0.5)
    axes.plot(x, y, "o", color=colour, label=label, markersize=5)


def _band(axes: Axes, trials: Sequence[Trial], dt_s: float, colour: str, label: str) -> None:
    length = min(len(trial.achieved_m) for trial in trials)
    distances: Vector = 1000 * np.array(
        [np.linalg.norm(trial.achieved_m[:length] - trial.goal_m, axis=1) for trial in trials]
    )
    time_s = dt_s * np.arange(length)
    low, median, high = np.quantile(distances, [0.1, 0.5, 0.9], axis=0)
    axes.plot(time_s, median, color=colour, label=label)
    axes.fill_between(time_s, low, high, color=colour, alpha=0.15, linewidth=0)


def _short(place: str) -> str:
    return place if len(place) <= 30 else f"…{place[-30:]}"
