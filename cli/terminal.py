"""Console output of commands."""

from rich.console import Console
from rich.text import Text

WIDE = 10_000
"""Columns of what is no terminal, so that no line of a file or a pipe is broken."""


def terminal() -> Console:
    """Console that prints text as it is: brackets in a name are not markup, and no word is coloured."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def remark(word: str, text: str) -> Text:
    """A line that begins with a highlighted word, such as ``warning``."""
    return Text.assemble((word, "yellow"), f" {text}")
