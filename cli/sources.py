"""Input of a run from outside the robot: links of sources, and the operator who puts an object back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Annotated, Literal

import tyro
from rich.console import Console

from wpg.cli.options import UsageError
from wpg.hardware_bridge.control.homing import PutBack
from wpg.hardware_bridge.keyboard import Keys
from wpg.hardware_bridge.keys import read_key
from wpg.hardware_bridge.sources.link import LinkSource

SourceOption = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(
        metavar="TERM[,TERM]=URL",
        help_behavior_hint="",
        help="Address of observation terms from outside the robot, e.g. object_pos=udp://127.0.0.1:7710; "
        "may be repeated (docs/sources.md).",
    ),
]
SourceKeyFile = Annotated[
    Path | None, tyro.conf.arg(metavar="FILE", help="Key shared with the sources (`wpg key FILE` makes one).")
]
PutBackMode = Literal["ask", "wait", "end"]


def link_sources(given: Sequence[str], key: Path | None) -> list[LinkSource]:
    """One source for every link that is named, with all of its terms.

    Raises:
        UsageError: an option is not of the form ``TERM=URL``.
        LinkUrlError: the link is unknown.
        LinkError: the link is reachable from other machines, and no key was given.
    """
    terms: dict[str, list[str]] = {}
    for text in given:
        names, _, url = text.partition("=")
        if not names or not url:
            raise UsageError(f"--source {text}: expected TERM=URL, e.g. object_pos=udp://127.0.0.1:7710")
        terms.setdefault(url, []).extend(names.split(","))
    secret = None if key is None else read_key(key)
    return [LinkSource(url, names, key=secret) for url, names in terms.items()]


def put_back_by(mode: PutBackMode | None, keys: Keys | None, console: Console) -> PutBack | None:
    """What is called when an object is out of reach and must be put back; None ends the run.

    Raises:
        UsageError: the operator is to be asked, but there is no terminal.
    """
    if mode == "wait":
        return lambda trouble: True
    if mode == "ask" and keys is None:
        raise UsageError("--put-back ask: needs a terminal; --put-back wait goes on by itself")
    if mode == "end" or keys is None:
        return None

    def say(text: str) -> None:
        # Writing to a terminal may block, and the loop must not.
        Thread(target=console.print, args=(text,), kwargs={"style": "bold"}, daemon=True).start()

    return AskOperator(keys, say)


class AskOperator:
    """Asks the operator to put the object back, and continues on Enter.

    Args:
        keys: keys of the terminal.
        say: prints a line without blocking.
    """

    def __init__(self, keys: Keys, say: Callable[[str], None]) -> None:
        self._keys = keys
        self._say = say
        self._asked = self._ready = False

    def __call__(self, trouble: str) -> bool:
        """Whether the arm may go on; ``trouble`` says what is wrong with the object's place, or is empty."""
        self._ready = (self._keys.enter() and self._asked) or self._ready
        if trouble and (self._ready or not self._asked):
            self._asked, self._ready = True, False
            self._say(f"{trouble}; put it back, stand clear, press Enter")
        return self._ready
