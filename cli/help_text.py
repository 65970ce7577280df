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
from tyro.constructors import PrimitiveConstructorSpec

from wpg.cli.options import UsageError

METAVARS = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}
NUMBERS = {int: "a whole number", float: "a number"}
WIDEST = 100
ARGUMENTS = "\n\nArgs:\n"
Command = Callable[..., None]


class OptionValueError(UsageError):
    """The text given for an option is no value of the option's kind."""


def summaries(commands: Mapping[str, Command]) -> Any:
    """Type from which :func:`tyro.cli` makes a help text that has the summary of each command."""
    options = []
    for name, command in commands.items():
        summary, _, _ = inspect.cleandoc(command.__doc__ or "").partition("\n\n")
        shown = tyro.conf.subcommand(name=name, constructor=_not_asked, description=summary)
        options.append(Annotated[Any, shown])
    return Union[tuple(options)]  # noqa: UP007  as many as there are


def _not_asked() -> None:
    """Stands for a command that was not typed."""


def description(command: Command) -> str:
    """The command's docstring without its arguments, in lines for the terminal.

    tyro leaves the lines of a paragraph as they are where these begin with anything but a letter.
    """
    text = inspect.cleandoc(command.__doc__ or "").partition(ARGUMENTS)[0]
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return "\n".join(
        textwrap.fill(part, width, initial_indent=" ", subsequent_indent=" ") for part in text.split("\n\n")
    )


def tidy(command: Command) -> None:
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
        kind = get_args(plain)[0] if default is None else plain
        extras += _value(name, kind)
        if default is None:
            extras.insert(0, tyro.conf.arg(metavar=_metavar(kind), help_behavior_hint=""))
        elif default is False or default == "":
            extras.insert(0, tyro.conf.arg(help_behavior_hint=""))
        if extras:
            command.__annotations__[name] = Annotated[plain, *extras]


def _value(name: str, kind: Any) -> list[PrimitiveConstructorSpec[Any]]:
    """How an option's text becomes numbers or a choice; empty for other kinds, which tyro reads.

    Raises:
        OptionValueError: when it is used, on text that is no such value.
    """
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    parts = (str,) if choices else get_args(kind) or (kind,)
    if not choices and not all(part in NUMBERS for part in parts):
        return []

    def read(texts: list[str]) -> Any:
        values = []
        for part, text in zip(parts, texts, strict=True):
            try:
                values.append(part(text))
            except ValueError:
                raise unreadable(NUMBERS[part], text) from None
        if choices and values[0] not in choices:
            raise unreadable(f"one of {', '.join(choices)}", values[0])
        return values[0] if len(parts) == 1 else tuple(values)

    def unreadable(expected: str, found: str) -> OptionValueError:
        return OptionValueError(f"--{name.replace('_', '-')}: expected {expected}, found {found!r}")

    return [
        PrimitiveConstructorSpec(
            nargs=len(parts),
            metavar=_metavar(kind),
            instance_from_str=read,
            is_instance=lambda value: True,
            str_from_instance=lambda value: [str(value)],
        )
    ]


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
        extras = [] if kind is bool else _value(args.get(name, {}).get("name", name), get_args(kind)[0])
        options.append((name, Annotated[kind, option, *extras], field(default=absent)))
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
