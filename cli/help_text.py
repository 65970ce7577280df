"""Commands as tyro shows them: help without noise, and options read from a settings class."""

import ast
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, fields, make_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

METAVARS = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}
WIDEST = 100
ARGUMENTS = "\n\nArgs:\n"
Command = Callable[..., None]


def readable(commands: Mapping[str, Command], asked: str) -> Any:
    """Type from which :func:`tyro.cli` makes a command line with these subcommands.

    Args:
        commands: by name.
        asked: the command that was typed. Only its options are read; of the others the summary is enough.
    """
    options = []
    for name, command in commands.items():
        if name == asked:
            _tidy(command)
        description = _description(command, in_full=name == asked)
        constructor = command if name == asked else _not_asked
        shown = tyro.conf.subcommand(name=name, constructor=constructor, description=description)
        options.append(Annotated[Any, shown])
    return Union[tuple(options)]  # noqa: UP007  as many as there are


def _not_asked() -> None:
    """Stands for a command that was not typed."""


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
    """Show an option that may be left out as ``INT``, and the text of each argument as one line.

    tyro would show ``{None}|INT``, and the defaults None, False and "", which tell a user nothing: the
    option's own text says what holds without it.
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


def optional_settings(
    settings: type, *, leave_out: Collection[str], first: Collection[str], args: Mapping[str, Any]
) -> type:
    """Dataclass of a settings class's fields as options that may be left out, with their docstrings as help.

    A flag is False and any other option None where it was not given, whatever the default of its field.

    Args:
        settings: a dataclass with a docstring under each field, which says "None takes" before a default
            that depends on other settings.
        leave_out: fields that are no options.
        first: fields to show before all others, in this order.
        args: for some fields, by name, what ``tyro.conf.arg`` is to take besides.
    """
    shown = {one.name: one for one in fields(settings) if one.name not in leave_out}
    hints, texts = get_type_hints(settings), _field_texts(settings)
    flags = re.compile(rf"`({'|'.join(shown)})`")
    options = []
    for name in dict.fromkeys((*first, *shown)):
        hint, default = hints[name], shown[name].default
        kind, absent = (bool, False) if hint is bool else (hint | None, None)
        text = flags.sub(lambda found: f"--{found[1].replace('_', '-')}", texts[name])
        named = {
            "help": text.replace("None takes", "by default"),
            "help_behavior_hint": "" if default is None or default is False else f"(default: {default})",
            "metavar": None if kind is bool else _metavar(get_args(kind)[0]),
        }
        option = tyro.conf.arg(**named | args.get(name, {}))
        options.append((name, Annotated[kind, option], field(default=absent)))
    return make_dataclass("Settings", options, kw_only=True)


def _field_texts(settings: type) -> dict[str, str]:
    """Docstrings of a class's fields, by name."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        ast.unparse(one.target): " ".join(ast.literal_eval(text.value).split())
        for one, text in pairwise(definition.body)
        if isinstance(one, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
