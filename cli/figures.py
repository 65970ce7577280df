"""Colours, style and SVG output shared by all figures."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#2463a8", "#d9722e", "#2e8b57", "#8a8f98"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "wpg",
}
styled = mpl.rc_context(STYLE)  # as a decorator it applies the style during every call


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of this size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


class Bar(NamedTuple):
    """Success rate in one place, as a bar."""

    label: str
    rate: float
    ci95: tuple[float, float]
    note: str
    """Text to the right of the bar."""
    colour: str


def draw_success(axes: Axes, bars: Sequence[Bar]) -> None:
    """Draw bars in percent from top to bottom, each with its interval as a line."""
    for place, bar in enumerate(bars):
        low, high = bar.ci95
        axes.barh(place, 100 * bar.rate, height=0.6, color=bar.colour, alpha=0.85)
        axes.plot([100 * low, 100 * high], [place, place], color="black", linewidth=1.2)
        axes.text(103, place, bar.note, va="center")
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 102)


def svg(figure: Figure) -> str:
    """The figure as SVG text that can be embedded in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
