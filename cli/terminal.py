"""What commands print."""

from rich.console import Console
from rich.text import Text


def terminal() -> Console:
    """Prints text as it is: the brackets of a name are no markup, and no word is coloured by chance."""
    return Console(markup=False, highlight=False)


def remark(word: str, text: str) -> Text:
    """A line that begins with a word that stands out, such as ``warning``."""
    return Text.assemble((word, "yellow"), f" {text}")
