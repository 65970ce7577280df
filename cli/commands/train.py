"""``wpg train``: learn a policy, and export it."""

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from wpg.cli.help_text import optional_settings
from wpg.cli.options import (
    ActuatorsFile,
    ControlOption,
    RobotOption,
    UsageError,
    env_kwargs,
    naming,
    refuse_existing,
    usage_error,
)
from wpg.cli.policies import POLICY_NAME
from wpg.cli.terminal import terminal

if TYPE_CHECKING:
    from wpg.controllers import ProgressBar, TrainConfig, TrainResult

ENOUGH_SUCCESS = 0.98
"""Success at which training ends by default, in an environment that is not of wpg."""
CHANGED_BY_RESUME = ("steps", "max_seconds", "overlap")
"""Settings that ``--resume`` accepts; all others stay as the run has them."""
RENAMED = {"num_particles": "particles"}
"""Options whose name differs from their setting, by setting."""
FIRST = ("steps", "stop_at_success", "max_seconds", "seed", "demonstrations", "num_envs", "device", "compile")
"""Settings that the help shows first."""


def settings_options() -> type:
    """Options for the settings of :class:`wpg.controllers.TrainConfig`, which is where they are described."""
    from wpg.controllers import TrainConfig  # noqa: PLC0415  torch: not in the bare bridge

    return optional_settings(
        TrainConfig,
        leave_out=("env", "env_kwargs", "overlap"),
        first=FIRST,
        args={
            **{name: {"name": option} for name, option in RENAMED.items()},
            "steps": {"help_behavior_hint": ""},  # the environment's, as the command's text says
            "demonstrations": {
                "metavar": "FILE.npz",
                "help": "File of additional episodes to learn from (`wpg demonstrate` writes one).",
            },
        },
    )


def train(
    env: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")] = None,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    robot: RobotOption = None,
    actuators: ActuatorsFile = None,
    control: ControlOption = None,
    one_process: bool = False,
    training: Annotated[
        Any, tyro.conf.OmitArgPrefixes, tyro.conf.arg(constructor_factory=settings_options, help="")
    ],
) -> None:
    """Train a policy by Wasserstein policy gradient and export it.

    Writes config.yaml, metrics.csv, training.png, TensorBoard logs, checkpoint/ and policy.onnx under the run
    folder. Training ends after --steps, at --stop-at-success or after --max-seconds, whichever comes first.
    If neither of the first two is given, it ends after the default steps of a task of wpg (18,000 for
    reaching, 300,000 for pushing), otherwise at 98 % success or after 100,000 steps.

    Args:
        env: Gymnasium id, of wpg or of any other package.
        out: New run folder; by default runs/ENV-seedS.
        resume: Continue the run in this folder, up to --steps if given.
        one_process: Do everything in one process. By default, where two cores may be used, the policy and,
            with goals, the environments have processes of their own; the results are the same.
        training: Settings of the training.
    """
    given = {
        name: value for name, value in vars(training).items() if value is not None and value is not False
    }
    if one_process:
        given["overlap"] = False
    kwargs = env_kwargs(robot=robot, actuators=actuators, control=control)
    if resume is not None:
        named = {"ENV": env, "--out": out, "--robot": robot, "--actuators": actuators, "--control": control}
        refused = [name for name, value in named.items() if value is not None]
        others = [RENAMED.get(name, name) for name in given if name not in CHANGED_BY_RESUME]
        refused += [f"--{name.replace('_', '-')}" for name in others]
        if refused:
            raise UsageError(f"--resume takes all else from the run: leave out {', '.join(refused)}")
        _resume(resume, given)
        return
    from wpg.controllers.training.run_folder import is_unused  # noqa: PLC0415  torch: not in the bare bridge

    if env is None:
        raise UsageError("which environment? `wpg train ENV`; `wpg list` shows what there is")
    if not given.keys() & {"steps", "stop_at_success"}:
        given |= _enough(env, evaluates=given.get("eval_period") != 0)
    if "demonstrations" in given:
        given["demonstrations"] = str(Path(given["demonstrations"]).resolve())
    folder = out or Path("runs") / f"{env.rpartition('/')[2]}-seed{given.get('seed', 0)}"
    if not is_unused(folder):
        refuse_existing(folder, f"--out{_or_else(folder)}")
    with naming(actuators):
        _begin(env, folder, given | {"env_kwargs": kwargs})


def _or_else(folder: Path) -> str:
    """What can be done about an existing folder that was given for a new run."""
    from wpg.controllers.training.run_folder import CONFIG_NAME, has_checkpoint  # noqa: PLC0415  torch: not in the bare bridge

    if has_checkpoint(folder):
        return f", or go on with it by --resume {shlex.quote(str(folder))}"
    return ", or remove it: that run has no checkpoint" if (folder / CONFIG_NAME).exists() else ""


def _begin(env: str, folder: Path, settings: dict[str, Any]) -> None:
    """Train a new run in ``env``."""
    from wpg.controllers import train  # noqa: PLC0415  torch: not in the bare bridge

    config = _config(env, settings)
    _run(folder, lambda bar: train(config, out=folder, on_progress=bar))


def _resume(folder: Path, settings: dict[str, Any]) -> None:
    """Continue the run in ``folder``."""
    from wpg.controllers import resume  # noqa: PLC0415  torch: not in the bare bridge

    _config("", settings)  # checks the values; its error names the option
    result = _run(folder, lambda bar: resume(folder, **settings, on_progress=bar), " in all, since resuming")
    if result.stopped_by == "steps":
        terminal().print(f"to train on: --resume {shlex.quote(str(folder))} --steps N", soft_wrap=True)


def _run(folder: Path, work: "Callable[[ProgressBar], TrainResult]", since: str = "") -> "TrainResult":
    """Train the run in ``folder`` by calling ``work``, export it, and print how it ended.

    ``since`` says from when on the seconds count, if that is not the first step.
    """
    from wpg.controllers import ProgressBar  # noqa: PLC0415  torch: not in the bare bridge
    from wpg.controllers.training.run_folder import has_checkpoint, read_config  # noqa: PLC0415
    from wpg.export import export_run  # noqa: PLC0415

    console = terminal()
    try:
        with interrupted_by_sigterm():
            with ProgressBar(console) as bar:
                result = work(bar)
            _show(result, since, console)
            export_run(result.folder, result.folder / POLICY_NAME)
    except KeyboardInterrupt:
        if not folder.exists():
            raise
        if not has_checkpoint(folder):
            raise KeyboardInterrupt(f"{folder} has no checkpoint yet, it may be removed") from None
        _, metadata = read_config(folder)
        at = shlex.quote(str(folder))
        raise KeyboardInterrupt(
            f"the last checkpoint is of step {metadata.steps:,}: go on from there by "
            f"wpg train --resume {at}, or export its policy by wpg export {at}"
        ) from None
    command = shlex.join(("wpg", "evaluate", str(folder)))
    console.print(f"exported to {folder / POLICY_NAME}; next: {command}", soft_wrap=True)
    return result


def _show(result: "TrainResult", since: str, console: Console) -> None:
    """Print how a training ended; ``since`` is as for :func:`_run`."""
    from wpg.controllers.training.progress import outcome  # noqa: PLC0415  torch: not in the bare bridge

    evaluated = "nothing was evaluated"
    if result.return_mean is not None:
        evaluated = f"last evaluation: {outcome(result.return_mean, result.success_rate)}"
    console.print(
        f"{result.steps:,} steps{since}: {result.train_seconds:.0f} s of training and "
        f"{result.eval_seconds:.0f} s of evaluation, stopped by {result.stopped_by}; {evaluated}",
        soft_wrap=True,
    )
    if not result.updates:
        console.print(
            f"no update was made: {result.steps:,} steps are not enough, so the policy is untrained. "
            "Learning begins after the random steps (see config.yaml); with goals also after an episode",
            soft_wrap=True,
        )


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM, which schedulers and ``timeout`` send, has the effect of Ctrl-C."""

    def interrupt(*signalled: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _enough(env: str, *, evaluates: bool) -> dict[str, Any]:
    """Settings of when training ends, if neither steps nor a success were given."""
    from wpg.sim_envs.registration import train_steps  # noqa: PLC0415  needs gymnasium

    steps = train_steps(env)
    if steps is not None:
        return {"steps": steps}
    return {"stop_at_success": ENOUGH_SUCCESS} if evaluates else {}


def _config(env: str, settings: dict[str, Any]) -> "TrainConfig":
    from wpg.controllers import ConfigError, TrainConfig  # noqa: PLC0415

    try:
        return TrainConfig(env=env, **settings)
    except ConfigError as error:
        raise usage_error(error, **RENAMED) from error
