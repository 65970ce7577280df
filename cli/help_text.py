"""The help of a command without noise."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import tyro

METAVARS = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}
Command = Callable[..., None]


def readable(command: Command) -> Command:
    """The command, its options that may be left out shown as ``INT``, its texts without line breaks.

    Without this tyro shows ``{None}|INT`` and a default of None, which says nothing: what holds then stands
    in the option's own text. And it keeps the source's line breaks before all but letters.
    """
    command.__doc__ = _unbroken(command.__doc__ or "")
    for name, hint in get_type_hints(command, include_extras=True).items():
        plain, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kinds = get_args(plain)
        if NoneType in kinds:
            shown = tyro.conf.arg(metavar=_metavar(kinds[0]), help_behavior_hint="")
            command.__annotations__[name] = Annotated[plain, shown, *extras]
    return command


def _metavar(kind: type) -> str:
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    parts = get_args(kind) or (kind,)
    return " ".join(METAVARS[part] for part in parts)


def _unbroken(docstring: str) -> str:
    """The same with one line for each paragraph and each argument."""
    text, heading, arguments = inspect.cleandoc(docstring).partition("\n\nArgs:\n")
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    return text + heading + re.sub(r"\n {8,}", " ", arguments)
