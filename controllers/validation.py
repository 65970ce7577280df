"""Validation of a settings dataclass against the types and ranges that its fields declare."""

import math
import os
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np
from msgspec import inspect

from wpg.controllers.errors import ConfigError

BOUNDS = {"gt": "greater than", "ge": "of at least", "lt": "less than", "le": "at most"}
"""How error messages name the limits of a number."""


def validate_fields(settings: Any) -> None:
    """Check the fields of a frozen dataclass and convert them in place to their declared types.

    Only conversions that keep the value are made: NumPy numbers become Python numbers, whole floats become
    integers where integers are declared, and paths become strings.

    Raises:
        ConfigError: a field's value is of another type, out of its range, or a number that is not finite.
    """
    for one in fields(settings):
        value, kind = getattr(settings, one.name), _declared(one.type)
        try:
            plain = msgspec.convert(_python_value(value, kind), one.type)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{one.name} must be {_wanted(kind)}, it is {value!r}") from error
        if isinstance(plain, float) and not math.isfinite(plain):
            raise ConfigError(f"{one.name} must be finite, it is {value!r}")
        object.__setattr__(settings, one.name, plain)


def _declared(annotation: Any) -> inspect.Type:
    """The type that an annotation declares, without its `None`."""
    kind = inspect.type_info(annotation)
    if isinstance(kind, inspect.UnionType):
        (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return kind


def _wanted(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        word = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        limits = [
            f"{text} {limit}" for name, text in BOUNDS.items() if (limit := getattr(kind, name)) is not None
        ]
        return " ".join([word, " and ".join(limits)]).rstrip()
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    return "a string" if isinstance(kind, inspect.StrType) else "a mapping"


def _python_value(value: Any, kind: inspect.Type) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    plain = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(plain, float) and plain.is_integer()
    return int(plain) if whole and isinstance(kind, inspect.IntType) else plain
