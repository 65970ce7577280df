"""Option types that several subcommands share."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import tyro

T = TypeVar("T")

JsonFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="Also write the result here, as JSON.")]
KeyFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="Key shared with the other end (`wpg key FILE` makes one)."),
]
CalibrationFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="LeRobot's calibration file of an arm on a servo bus."),
]
ActuatorsFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE.toml", help="What sets the arm apart from its model (see `wpg identify`)."),
]
ArtifactPath = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE", help="An exported policy (.onnx).")
]
LogPath = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG", help="A run log (`wpg run --log run.mcap`).")
]


class CommandError(RuntimeError):
    """A command cannot do what it was asked; the message says why and what to do."""


def actuators_option(path: Path | None) -> dict[str, Any]:
    """Keyword arguments that give an environment's arm these actuators.

    Raises:
        CommandError: there is no such file.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    return {"effects": str(path.resolve())}


def write_json(path: Path | None, result: Any) -> None:
    """Write ``result`` (a msgspec struct, dataclass or plain data) as indented JSON, if a path was given."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
