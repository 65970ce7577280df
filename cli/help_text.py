"""The help of commands without noise."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

METAVARS = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}
WIDEST = 100
ARGUMENTS = "\n\nArgs:\n"
Command = Callable[..., None]


def readable(commands: Mapping[str, Command], asked: str) -> Any:
    """What :func:`tyro.cli` makes a command line with these subcommands from.

    Args:
        commands: by name.
        asked: the one whose help would be shown; of the others the summary is enough.
    """
    options = []
    for name, command in commands.items():
        _tidy(command)
        description = _description(command, in_full=name == asked)
        shown = tyro.conf.subcommand(name=name, constructor=command, description=description)
        options.append(Annotated[Any, shown])
    return Union[tuple(options)]  # noqa: UP007  as many as there are


def _description(command: Command, *, in_full: bool) -> str:
    """The command's docstring without its arguments: the summary, or all of it, in lines for the terminal.

    tyro leaves the lines of a paragraph as they are where these begin with anything but a letter.
    """
    text = inspect.cleandoc(command.__doc__ or "").partition(ARGUMENTS)[0]
    summary, *details = text.split("\n\n")
    if not in_full:
        return summary
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return "\n".join(
        textwrap.fill(part, width, initial_indent=" ", subsequent_indent=" ") for part in (summary, *details)
    )


def _tidy(command: Command) -> None:
    """Show options that may be left out as ``INT``, and each argument's text as one line.

    tyro shows ``{None}|INT``, and defaults of None, False and nothing, which say nothing: what holds then
    stands in the option's own text.
    """
    text, heading, arguments = inspect.cleandoc(command.__doc__ or "").partition(ARGUMENTS)
    command.__doc__ = text + heading + re.sub(r"\n {8,}", " ", arguments)
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        hint, default = hints[name], parameter.default
        plain, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if default is None:
            shown = tyro.conf.arg(metavar=_metavar(get_args(plain)[0]), help_behavior_hint="")
        elif default is False or default == "":
            shown = tyro.conf.arg(help_behavior_hint="")
        else:
            continue
        command.__annotations__[name] = Annotated[plain, shown, *extras]


def _metavar(kind: type) -> str:
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    parts = get_args(kind) or (kind,)
    return " ".join(METAVARS[part] for part in parts)
