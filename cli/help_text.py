"""The help of a command without noise."""

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import tyro

METAVARS = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}
Command = Callable[..., None]


def readable(command: Command) -> Command:
    """The command, its options that may be left out shown as ``INT``.

    Without this tyro shows ``{None}|INT`` and a default of None, which says nothing: what holds then stands
    in the option's own text.
    """
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
