"""Option types that several subcommands share."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tyro

from wpg.hardware_bridge.description import copy_description

PRECIOUS = (".onnx", ".mcap", ".npz", ".toml", ".zip")
"""Suffixes of files that are not replaced silently: a training, a robot or a person made them."""

ParticleChoice = Literal["best", "mean", "sample"]
"""How an exported policy acts in simulation: by the critic's best particle, the particles' mean, or a random
one.

``wpg.controllers.Select`` has the same values, but cannot be used here: importing it imports torch, which the
bare bridge lacks. Its ``mean`` is also another rule: in training it is the mean of the particles before the
tanh and without noise. Here the particles are those of the exported file, after the tanh and with noise.
"""
JsonFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="Also write the result here, as JSON.")]
KeyFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="Key shared with the other end (`wpg key FILE` makes one)."),
]
CalibrationFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="LeRobot's calibration file of an arm on a servo bus."),
]
SafetyFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE.toml",
        help="Thresholds and workspace instead of the defaults; docs/safety.md lists their names.",
    ),
]
ActuatorsFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE.toml", help="How the arm differs from its model (see `wpg identify`)."),
]
RobotOption = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="ROBOT", help="Another arm for the task: its name (`wpg list`) or its description file."
    ),
]
ControlOption = Annotated[
    Literal["joints", "tool"] | None,
    tyro.conf.arg(help="What the actions move, in tasks of wpg; by default the task's own choice."),
]
LogPath = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG", help="A run log (`wpg run --log run.mcap`).")
]


class CommandError(RuntimeError):
    """A command cannot do what was requested; the message says why and what to do."""


class UsageError(CommandError):
    """The request itself is invalid, whatever files and robots there are."""


def usage_error(error: Exception, **options: str) -> UsageError:
    """An error of a settings class as a usage error, which names the option instead of the field.

    Args:
        error: raised by the class; its message may begin with the name of a field.
        options: option names by field, where the two differ.
    """
    message = str(error)
    field = re.split(r"\W", message, maxsplit=1)[0]
    if not field:
        return UsageError(message)
    return UsageError(f"--{options.get(field, field).replace('_', '-')}{message[len(field) :]}")


def require_at_least(least: int, **options: int | None) -> None:
    """Refuse numbers below ``least``; None stands for an option that was not given.

    Raises:
        UsageError: names the option.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')}: expected at least {least}, found {value}")


def env_kwargs(
    *, robot: str | None = None, actuators: Path | None = None, control: str | None = None
) -> dict[str, Any]:
    """Keyword arguments for an environment's constructor, as plain values for a run's config.yaml.

    Args:
        robot: a robot's name or the path of its description.
        actuators: an ``actuators.toml``.
        control: what actions move.

    The content of both files is copied, so that a run neither needs them nor follows their changes.

    Raises:
        CommandError: the file of actuators is missing or holds no effects.
        DescriptionError: the robot's description is invalid.
    """
    kwargs: dict[str, Any] = {}
    if robot is not None:
        kwargs["robot"] = copy_description(Path(robot)) if Path(robot).is_file() else robot
    if control is not None:
        kwargs["control"] = control
    if actuators is not None:
        from wpg.sim_envs.effects import Effects  # noqa: PLC0415  needs gymnasium

        try:
            kwargs["effects"] = msgspec.toml.decode(actuators.read_text())
            msgspec.convert(kwargs["effects"], Effects)
        except OSError as error:
            raise CommandError(f"{actuators}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"{actuators}: expected a TOML file, found no text") from error
        except ValueError as error:
            raise CommandError(f"{actuators}: {error}") from error
    return kwargs


@contextmanager
def naming(actuators: Path | None) -> Iterator[None]:
    """Within the block, make errors about effects name the file that they came from.

    Raises:
        CommandError: the effects do not fit the environment or its robot.
    """
    if actuators is None:
        yield
        return
    from wpg.controllers import UnsupportedEnvError  # noqa: PLC0415  needs gymnasium
    from wpg.sim_envs.errors import EffectsError  # noqa: PLC0415

    try:
        yield
    except EffectsError as error:
        raise CommandError(f"{actuators}: {str(error).removeprefix('effects: ')}") from error
    except UnsupportedEnvError as error:
        raise CommandError(str(error).replace("'effects'", "--actuators")) from error


def refuse_existing(path: Path, option: str) -> None:
    """Refuse to replace a file or folder that took long to make.

    Raises:
        CommandError: ``path``, which the user chose with ``option``, exists.
    """
    if path.exists():
        raise CommandError(f"{path} exists already: choose another with {option}")


def require_policy(policy: Path) -> None:
    """Check that there is a policy at this path.

    Raises:
        CommandError: there is nothing.
    """
    if not policy.exists():
        raise CommandError(
            f"{policy}: no such file or folder; expected a run folder or an exported .onnx file"
        )


def prepare_outputs(*paths: Path | None, inputs: Sequence[Path | str | None] = (), kind: str = "") -> None:
    """Check before the work that its results can be written; existing files will be replaced.

    Args:
        paths: of the results; None for one that is not requested.
        inputs: files that the command reads and no result may replace; names that are not files are ignored.
        kind: a suffix in ``PRECIOUS`` whose files these results may replace, as one policy replaces another.

    Raises:
        CommandError: there is a folder, an input or a file of another kind at the path, the path is not
            writable, or two results have the same one.
        OSError: the file's folder cannot be created.
    """
    read = {Path(name).resolve() for name in inputs if name is not None and Path(name).is_file()}
    written: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        if path.resolve() in read:
            raise CommandError(f"{path} is read by this command: choose another name for its result")
        if path.resolve() in written:
            raise CommandError(f"{path}: expected a name for each result, found the same one twice")
        written.add(path.resolve())
        if path.is_dir():
            raise CommandError(f"{path}: expected the name of a file, found a folder")
        if path.suffix in PRECIOUS and path.suffix != kind and path.exists():
            raise CommandError(
                f"{path} exists already, and {path.suffix} files are never replaced: choose another name"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise CommandError(f"{path}: {error.filename} is no folder") from error
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandError(f"{path}: may not be written")


def write_json(path: Path | None, result: Any) -> None:
    """Write ``result`` (a msgspec struct, dataclass or plain data) as indented JSON, if a path was given.

    Raises:
        CommandError: the disk is full, or not writable; so commands print their result first.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    except OSError as error:
        raise CommandError(f"{path}: cannot be written: {error.strerror}") from error
