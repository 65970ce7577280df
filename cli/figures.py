"""What all figures have in common: colours, style, and SVG text that stands inside a page."""

import io
from typing import Any

import matplotlib as mpl
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


def svg(figure: Figure) -> str:
    """The figure as text that may stand in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
