"""Entry point of ``wpg``: dispatch, and one clear line for everything that can go wrong.

Exit codes: 0 done, 1 the work failed (a line says why), 2 bad usage.
"""

import sys
from collections.abc import Callable, Sequence

import tyro

from wpg.cli.check import check
from wpg.cli.demo import demo
from wpg.cli.doctor import doctor
from wpg.cli.emulate import emulate
from wpg.cli.evaluate import evaluate
from wpg.cli.export import export
from wpg.cli.identify import identify
from wpg.cli.inspect import inspect
from wpg.cli.key import key
from wpg.cli.list import list_names
from wpg.cli.play import play
from wpg.cli.plot import plot
from wpg.cli.replay import replay
from wpg.cli.run import run
from wpg.cli.train import train
from wpg.cli.transfer.command import transfer

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
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

# Imports that the bare bridge does without, and the extra that brings each.
EXTRAS = {
    "torch": "train",
    "gymnasium": "train",
    "mujoco": "train",
    "pybullet": "train",
    "pybullet_data": "train",
    "onnx": "train",
    "onnxscript": "train",
    "matplotlib": "train",
    "PIL": "train",
    "jinja2": "train",
    "scipy": "train",
    "yaml": "train",
    "safetensors": "train",
    "tensorboard": "train",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="wpg",
            description="Train a manipulator policy in simulation, export it, run it on the robot.",
            args=args,
        )
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(f"this command needs {error.name}: pip install 'wpg[{extra}]'")
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        # What wpg raises on purpose carries a message for its user; a defect keeps its trace.
        if not (type(error).__module__.startswith("wpg.") or isinstance(error, OSError)):
            raise
        return _fail(str(error))
    return 0


def _fail(message: str, code: int = 1) -> int:
    print(f"wpg: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
