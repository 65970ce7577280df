"""Figures of the demo's report, as SVG text that is embedded in the page."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wpg.cli.demo.trials import Array, LinkTrial, SuccessRow, TrainingCurve
from wpg.cli.figures import BLUE, GREEN, ORANGE, Bar, draw_success, new_figure, styled, svg
from wpg.hardware_bridge.description import RobotDescription

MAX_POINTS = 600


@styled
def learning_curve(curve: TrainingCurve) -> str:
    """Success against environment steps, with the seconds of training on a second axis above."""
    figure, axes = _figure(7.2, 2.8)
    axes.plot(curve.steps, 100 * curve.success, color=BLUE, marker="o", markersize=3)
    axes.set(xlabel="environment steps", ylabel="success, %", ylim=(-4, 104))
    if len(curve.steps) > 1:
        axes.set_xlim(0, curve.steps[-1])
        steps, seconds = np.r_[0.0, curve.steps], np.r_[0.0, curve.seconds]
        above = axes.secondary_xaxis(
            "top",
            functions=(_interpolation(steps, seconds), _interpolation(seconds, steps)),
        )
        ticks = MaxNLocator(6).tick_values(0, seconds[-1])
        above.set_xticks(ticks[ticks <= seconds[-1]])
        above.set_xlabel("seconds of training")
    return svg(figure)


@styled
def success_bars(rows: Sequence[SuccessRow]) -> str:
    """Success by engine and link, with 95 % intervals."""
    figure, axes = _figure(7.2, 0.5 + 0.42 * len(rows))
    bars = [
        Bar(
            row.label, row.rate, row.ci95, f"{row.successes} of {row.trials}", GREEN if row.deployed else BLUE
        )
        for row in rows
    ]
    draw_success(axes, bars)
    axes.set_xlabel("success, % (line: 95 % Wilson interval)")
    return svg(figure)


@styled
def tool_errors(trials: Sequence[LinkTrial], tolerance_m: float) -> str:
    """Distance from tool to goal over the time since the goal was given, one line for each goal."""
    figure = new_figure(7.2, 2.8)
    for place, trial in enumerate(trials):
        axes = figure.add_subplot(1, len(trials), place + 1)
        for error in trial.goal_errors:
            axes.plot(error.time_s, 1000 * error.distance_m, color=BLUE, alpha=0.45, linewidth=1)
        axes.axhline(1000 * tolerance_m, color=ORANGE, linewidth=1, linestyle="--")
        axes.set(yscale="log", xlabel="seconds since the goal was given", title=trial.label)
        if place == 0:
            axes.set_ylabel("tool error, mm")
    return svg(figure)


@styled
def joint_traces(trial: LinkTrial, robot: RobotDescription) -> str:
    """Every joint's position over the run, its limits dashed."""
    columns = 4
    rows = -(-robot.num_joints // columns)
    figure = new_figure(9.0, 1.7 * rows)
    keep = _thin(len(trial.time_s))
    for index, joint in enumerate(robot.joints):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.plot(trial.time_s[keep], trial.joint_pos[keep, index], color=BLUE, linewidth=0.8)
        for limit in (joint.position_min_rad, joint.position_max_rad):
            axes.axhline(limit, color=ORANGE, linewidth=1, linestyle="--")
        axes.set_title(joint.name)
        axes.tick_params(labelsize=7)
        if index % columns == 0:
            axes.set_ylabel("rad")
        if index >= robot.num_joints - columns:
            axes.set_xlabel("s")
    return svg(figure)


@styled
def lateness_histogram(trials: Sequence[LinkTrial]) -> str:
    """How late the loop's ticks began, on logarithmic axes."""
    figure, axes = _figure(7.2, 2.4)
    floor_us = 1.0
    every = np.concatenate([trial.lateness_us for trial in trials])
    edges = np.geomspace(floor_us, max(every.max(), 10 * floor_us), 60)
    for trial, colour in zip(trials, (BLUE, ORANGE), strict=False):
        values = np.maximum(trial.lateness_us, floor_us)
        axes.hist(
            values, bins=edges.tolist(), histtype="step", color=colour, label=trial.label, linewidth=1.3
        )
    axes.set(xscale="log", yscale="log", xlabel="lateness of a tick, µs", ylabel="ticks")
    axes.legend(frameon=False)
    return svg(figure)


def _interpolation(xs: Array, ys: Array) -> Callable[[Any], Any]:
    return lambda x: np.interp(x, xs, ys)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def _thin(count: int) -> NDArray[np.int64]:
    """Indices of at most MAX_POINTS evenly spaced samples."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, MAX_POINTS)).astype(np.int64))
