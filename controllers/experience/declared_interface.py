"""The interface that an environment declares, and its comparison with that of the training."""

import reprlib
from typing import Any

import msgspec

from wpg.controllers.errors import CheckpointFormatError
from wpg.controllers.experience.environment import Env


def declared_interface(env: Env) -> Any:
    """What the environment declares as its `interface`, as JSON values; None if it declares nothing.

    The tasks of wpg declare the robot, the observations and the actions that an exported policy relies on.
    """
    declared = getattr(env.unwrapped, "interface", None)
    if not isinstance(declared, msgspec.Struct):
        return None
    return msgspec.json.decode(msgspec.json.encode(declared, enc_hook=str))


def check_interface(trained: Any, env: Env) -> None:
    """Check that an environment declares the interface that a run was trained with.

    Args:
        trained: what `declared_interface` returned at the training.
        env: the environment as it is made now.

    Raises:
        CheckpointFormatError: it declares another one; names the first field that differs.
    """
    found = declared_interface(env)
    if found != trained:
        field, before, now = _first_difference("interface", trained, found)
        raise CheckpointFormatError(
            f"{field}: the policy was trained with {reprlib.repr(before)}, its environment now declares "
            f"{reprlib.repr(now)}: restore the robot or the task of the training, or train again"
        )


def _first_difference(name: str, trained: Any, found: Any) -> tuple[str, Any, Any]:
    """Name and both values of the innermost field in which two JSON values differ."""
    if isinstance(trained, list) and isinstance(found, list) and len(trained) == len(found):
        trained, found = (dict(enumerate(values)) for values in (trained, found))
    if isinstance(trained, dict) and isinstance(found, dict) and trained.keys() == found.keys():
        key = next(key for key in trained if trained[key] != found[key])
        return _first_difference(f"{name}.{key}", trained[key], found[key])
    return name, trained, found
