"""The base class of everything that is read from a file, and the check that its numbers are finite."""

import math
from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything that is read from a file: immutable, and strict about unknown fields."""


def require_finite(parts: Record | dict[str, Any] | tuple[Any, ...], where: str = "") -> None:
    """Refuse NaN and infinity, which TOML allows, in any field.

    Args:
        parts: a record, or a field that contains others.
        where: begins the name of a field in the error.

    Raises:
        ValueError: names the field.
    """
    if isinstance(parts, tuple):
        parts = {str(index): value for index, value in enumerate(parts)}
    fields = msgspec.structs.asdict(parts) if isinstance(parts, Record) else parts
    for name, value in fields.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError(f"{where}{name}: expected finite numbers, found {value}")
        if isinstance(value, (Record, dict, tuple)):
            require_finite(value, f"{where}{name}.")
