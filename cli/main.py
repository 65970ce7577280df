"""Entry point of ``wpg``: runs the subcommand, and reports every error in one line.

Exit codes: 0 if the work is done; 2 if the command line itself is wrong, for example an unknown option, an
impossible value or options that exclude each other; 130 if Ctrl-C or another signal ended the work; 1 for
every other failure, such as a missing file.
"""

import difflib
import sys
from collections.abc import Sequence
from importlib import metadata

import tyro

from wpg.cli.commands.check import check
from wpg.cli.commands.demonstrate import demonstrate
from wpg.cli.commands.doctor import doctor
from wpg.cli.commands.emulate import emulate
from wpg.cli.commands.evaluate import evaluate
from wpg.cli.commands.export import export
from wpg.cli.commands.identify import identify
from wpg.cli.commands.inspect import inspect
from wpg.cli.commands.key import key
from wpg.cli.commands.list import list_names
from wpg.cli.commands.play import play
from wpg.cli.commands.plot import plot
from wpg.cli.commands.replay import replay
from wpg.cli.commands.run import run
from wpg.cli.commands.train import train
from wpg.cli.demo.command import demo
from wpg.cli.help_text import Command, OptionValueError, description, summaries, tidy
from wpg.cli.options import UsageError
from wpg.cli.transfer.command import transfer
from wpg.hardware_bridge.emulation.faults import FaultSpecError
from wpg.hardware_bridge.errors import LinkUrlError

ABOUT = (
    "Train a manipulator policy in simulation, export it, run it on the robot. "
    "`wpg --version` says which wpg this is."
)
COMMANDS: dict[str, Command] = {
    "demo": demo,
    "demonstrate": demonstrate,
    "train": train,
    "evaluate": evaluate,
    "play": play,
    "export": export,
    "inspect": inspect,
    "emulate": emulate,
    "run": run,
    "replay": replay,
    "plot": plot,
    "transfer": transfer,
    "check": check,
    "identify": identify,
    "doctor": doctor,
    "key": key,
    "list": list_names,
}

TRAIN = (
    *("torch", "gymnasium", "mujoco", "pybullet", "pybullet_data", "onnx", "onnxscript", "matplotlib", "PIL"),
    *("jinja2", "scipy", "yaml", "safetensors", "tensorboard"),
)
"""Packages that the bare bridge does not need and that the extra ``train`` installs."""

# Errors that mean an impossible value of an option, wherever it is found.
USAGE = (UsageError, LinkUrlError, FaultSpecError)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = sys.argv[1:] if args is None else args
    if list(args) == ["--version"]:
        print(f"wpg {metadata.version('wpg')}")
        return 0
    try:
        _dispatch(args)
    except KeyboardInterrupt as interrupt:
        return _fail("; ".join(("interrupted", *interrupt.args)), code=130)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAIN:
            raise
        return _fail(f"this command needs {error.name}: pip install 'wpg[train]'")
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        # Errors that wpg raises on purpose have a message for users; a defect keeps its traceback.
        if not (type(error).__module__.startswith("wpg.") or isinstance(error, (OSError, MemoryError))):
            raise
        return _fail(_reason(error), code=2 if isinstance(error, USAGE) else 1)
    return 0


def _dispatch(args: Sequence[str]) -> None:
    """Run the command named first; without one show what there is, and exit.

    Each command has a parser of its own, so that errors point to that command's help.
    """
    if not args or args[0] not in COMMANDS:
        if args and (near := difflib.get_close_matches(args[0], COMMANDS, n=1)):
            raise UsageError(f"no command {args[0]!r}: did you mean {near[0]}? `wpg --help` shows all")
        tyro.cli(summaries(COMMANDS), prog="wpg", description=ABOUT, args=args)
        return
    command, prog = COMMANDS[args[0]], f"wpg {args[0]}"
    tidy(command)
    try:
        tyro.cli(
            command,
            prog=prog,
            description=description(command),
            args=args[1:],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except OptionValueError as error:
        raise UsageError(f"{error}; see {prog} --help") from error


def _reason(error: Exception) -> str:
    """The error's message; that of the operating system without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return f"not enough memory: {error}" if isinstance(error, MemoryError) else str(error)


def _fail(message: str, code: int = 1) -> int:
    print(f"wpg: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
