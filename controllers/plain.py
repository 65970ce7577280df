"""Settings in the types that a settings file gives back."""

import os
from dataclasses import fields
from typing import Any, get_args

import msgspec
import numpy as np

from wpg.controllers.errors import ConfigError

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
"""Types of settings, as messages name them."""


def make_plain(settings: Any) -> None:
    """Bring the fields of a frozen dataclass into their declared types, as far as no value changes.

    Numbers of NumPy become Python's, whole ones integers where those are declared, and paths strings.

    Raises:
        ConfigError: a field's value is of another type.
    """
    for one in fields(settings):
        kind = next((kind for kind in KINDS if kind in (one.type, *get_args(one.type))), None)
        if kind is None:
            continue
        value = getattr(settings, one.name)
        try:
            plain = msgspec.convert(_python_value(value, kind), one.type)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{one.name} must be {KINDS[kind]}, it is {value!r}") from error
        object.__setattr__(settings, one.name, plain)


def _python_value(value: Any, kind: type) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if kind is int and isinstance(plain, float) and plain.is_integer() else plain
