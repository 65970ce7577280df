"""Console output of commands."""

from collections.abc import Iterator
from contextlib import contextmanager

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


def number_of(count: int, what: str) -> str:
    """The number with its noun, such as ``1 episode`` and ``3 episodes``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


@contextmanager
def working(text: str) -> Iterator[None]:
    """Say what is being done within the block: in a line that vanishes on a terminal, and stays elsewhere."""
    console = terminal()
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        console.print(text)
        yield


def remark(word: str, text: str) -> Text:
    """A line that begins with a highlighted word, such as ``warning``."""
    return Text.assemble((word, "yellow"), f" {text}")
