"""What all figures have in common: colours, style, and SVG text that stands inside a page."""

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
styled = mpl.rc_context(STYLE)  # as a decorator it is entered anew at every call


def new_figure(width: float, height: float) -> Figure:
    """Empty, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


class Bar(NamedTuple):
    """Success in one place."""

    label: str
    rate: float
    ci95: tuple[float, float]
    note: str
    """Stands behind the bar."""
    colour: str


def draw_success(axes: Axes, bars: Sequence[Bar]) -> None:
    """Bars in percent from the top down, each with its interval as a line."""
    for place, bar in enumerate(bars):
        low, high = bar.ci95
        axes.barh(place, 100 * bar.rate, height=0.6, color=bar.colour, alpha=0.85)
        axes.plot([100 * low, 100 * high], [place, place], color="black", linewidth=1.2)
        axes.text(103, place, bar.note, va="center")
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 102)


def svg(figure: Figure) -> str:
    """The figure as text that may stand in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
