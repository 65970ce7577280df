"""Report of ``wpg identify``: the measured arm beside the fitted and the unfitted simulator."""

import time
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from wpg.cli.figures import BLUE, GREY, ORANGE, new_figure, styled, svg
from wpg.cli.pages import template
from wpg.cli.quantities import SHOWN, as_shown, value_and_interval
from wpg.hardware_bridge.description import RobotDescription
from wpg.sim_envs.identification.identify import Comparison, Identification, Quantity

EXCERPT_S = 4.0
LINES = (("measured", "#b9bec6", 4.0), ("unfitted", ORANGE, 1.2), ("fitted", BLUE, 1.1))
"""Curves from back to front: name, colour, width."""
COLUMNS = 2


def write_identify_report(
    path: Path,
    found: Identification,
    comparison: Comparison,
    description: RobotDescription,
    *,
    origin: str,
) -> None:
    """Write the page.

    Args:
        path: of the page.
        found: what was identified.
        comparison: of both simulators on held-out data.
        description: the robot.
        origin: log or link that the recording came from.
    """
    fitted, unfitted = (1e3 * found.mae_rad(which) for which in ("fitted", "unfitted"))
    page = template("wpg.cli", "identify.html.j2").render(
        title=f"What sets this {description.title} apart from its model",
        verdict=_verdict(found, fitted, unfitted),
        subtitle=f"{time.strftime('%Y-%m-%d %H:%M')}, from {origin}",
        found=found,
        error_figure=_error_bars(found),
        trace_figure=_traces(comparison, description),
        quantity_figure=_quantities(found, description),
        noise=[
            (SHOWN[field].title, f"{as_shown(field, value)} {SHOWN[field].unit}")
            for field, value in found.noise.items()
        ],
        whole=[_row(quantity) for quantity in found.quantities if quantity.joint is None],
        unknown={SHOWN[field].title: joints for field, joints in found.unknown.items()},
        fitted_mrad=fitted,
        unfitted_mrad=unfitted,
    )
    path.write_text(page)


def _verdict(found: Identification, fitted_mrad: float, unfitted_mrad: float) -> str:
    delay = next((row for row in found.quantities if row.field == "action_delay_s"), None)
    late = "" if delay is None else f"The arm answers {1e3 * delay.value:.1f} ms late. "
    return (
        f"{late}On {found.held_out_s:.0f} s that were not fitted, the simulator with the identified figures "
        f"is {fitted_mrad:.2f} mrad off on average, the simulator without them {unfitted_mrad:.1f} mrad."
    )


def _row(quantity: Quantity) -> dict[str, str]:
    shown = SHOWN[quantity.field]
    value, interval = (f"{text} {shown.unit}" for text in value_and_interval(quantity))
    return {"title": shown.title, "value": value, "interval": interval}


@styled
def _error_bars(found: Identification) -> str:
    """Held-out error of both simulators for each joint."""
    figure = new_figure(7.2, 0.8 + 0.36 * len(found.errors))
    axes = figure.add_subplot()
    places = np.arange(len(found.errors))
    for shift, which, colour in ((-0.19, "fitted", BLUE), (0.19, "unfitted", ORANGE)):
        widths = [1e3 * getattr(error, f"{which}_rmse_rad") for error in found.errors]
        bars = axes.barh(places + shift, widths, height=0.34, color=colour, label=f"{which} simulator")
        axes.bar_label(bars, fmt=" {:.2g}", fontsize=8)
    axes.set_yticks(places, [error.joint for error in found.errors])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="root mean square difference from the measured position, mrad")
    axes.margins(x=0.15)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return svg(figure)


@styled
def _traces(comparison: Comparison, description: RobotDescription) -> str:
    """Distance of each joint from its setpoint, in the excerpt where the setpoints move most."""
    rows = -(-description.num_joints // COLUMNS)
    figure = new_figure(9.0, 1.8 * rows)
    shown = _busiest(comparison)
    time_s, command = comparison.time_s[shown], comparison.command[shown]
    for index, name in enumerate(description.joint_names):
        axes = figure.add_subplot(rows, COLUMNS, index + 1)
        for which, colour, width in LINES:
            distance = 1e3 * (getattr(comparison, which)[shown, index] - command[:, index])
            axes.plot(time_s, distance, color=colour, linewidth=width, label=which)
        axes.set_title(name)
        if index % COLUMNS == 0:
            axes.set_ylabel("mrad")
        if index >= description.num_joints - COLUMNS:
            axes.set_xlabel("s")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    return svg(figure)


def _busiest(comparison: Comparison) -> slice:
    time_s = comparison.time_s
    length = int(np.searchsorted(time_s, time_s[0] + EXCERPT_S))
    moved = np.abs(np.diff(comparison.command, axis=0)).sum(axis=1)
    within: NDArray[np.float64] = np.convolve(moved, np.ones(min(length, len(moved))), mode="valid")
    start = int(np.argmax(within))
    return slice(start, start + length)


@styled
def _quantities(found: Identification, description: RobotDescription) -> str:
    """Identified values of each joint with their intervals; dashed lines are the model's values."""
    fields = [field for field in SHOWN if any(q.field == field and q.joint for q in found.quantities)]
    rows = -(-len(fields) // COLUMNS)
    figure = new_figure(9.0, max(2.0 * rows, 1.0))
    for place, field in enumerate(fields):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        _quantity(axes, [q for q in found.quantities if q.field == field], description)
    return svg(figure)


def _quantity(axes: Axes, quantities: list[Quantity], description: RobotDescription) -> None:
    shown = SHOWN[quantities[0].field]
    neutral = shown.factor if quantities[0].field.endswith("_factor") else 0.0
    for quantity in quantities:
        place = description.joint_names.index(quantity.joint or "")
        interval = [shown.factor * quantity.low, shown.factor * quantity.high]
        axes.plot([place, place], interval, color=BLUE, linewidth=4, alpha=0.4)
        axes.plot(place, shown.factor * quantity.value, "o", color=BLUE, markersize=4)
    axes.axhline(neutral, color=GREY, linestyle="--", linewidth=1)
    names = [name.removeprefix(f"{description.name}_") for name in description.joint_names]
    axes.set_xticks(range(description.num_joints), names)
    axes.tick_params(axis="x", labelsize=7, rotation=20)
    axes.set_title(f"{shown.title}, {shown.unit}")
