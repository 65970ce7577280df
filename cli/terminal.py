"""Console output of commands."""

from rich.console import Console
from rich.text import Text


def terminal() -> Console:
    """Console that prints text as it is: brackets in a name are not markup, and no word is coloured."""
    return Console(markup=False, highlight=False)


def remark(word: str, text: str) -> Text:
    """A line that begins with a highlighted word, such as ``warning``."""
    return Text.assemble((word, "yellow"), f" {text}")
