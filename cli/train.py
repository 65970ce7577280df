"""``wpg train``: learn a policy, and export it."""

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

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
from wpg.cli.terminal import terminal

if TYPE_CHECKING:
    from wpg.controllers import ProgressBar, TrainConfig, TrainResult

ENOUGH_SUCCESS = 0.98
"""Where training on another environment ends unless steps or another success are asked for."""
ANEW = ("steps", "max_seconds", "overlap")
"""What a run that goes on may be given anew."""


def train(
    env: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")] = None,
    *,
    steps: int | None = None,
    stop_at_success: float | None = None,
    max_seconds: float | None = None,
    seed: int | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    robot: RobotOption = None,
    actuators: ActuatorsFile = None,
    control: ControlOption = None,
    demonstrations: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None,
    num_envs: int | None = None,
    updates_per_step: float | None = None,
    hidden: int | None = None,
    particles: int | None = None,
    initial_tau: float | None = None,
    temperature_pace: float | None = None,
    device: str | None = None,
    one_process: bool = False,
    compile: bool = False,
) -> None:
    """Train a policy by Wasserstein policy gradient and export it.

    Writes config.yaml, metrics.csv, training.png, TensorBoard logs, checkpoint/ and policy.onnx under the run
    folder. Training ends after --steps, at --stop-at-success or after --max-seconds, whichever comes first.
    If neither of the first two is given, it ends after the default steps of a task of wpg (18,000 for
    reaching, 300,000 for pushing), otherwise at 98 % success or after 100,000 steps.

    Args:
        env: Gymnasium id, of wpg or of any other package.
        steps: Total environment steps.
        stop_at_success: End when evaluated success is at least this twice in a row.
        max_seconds: End after this many seconds.
        seed: Seed of all randomness; by default 0.
        out: New run folder; by default runs/ENV-seedS.
        resume: Continue the run in this folder, up to --steps if given.
        demonstrations: Additional episodes to learn from (`wpg demonstrate`): at least a quarter of every
            batch.
        num_envs: Environments stepped in parallel; by default 8 with goals, 1 without.
        updates_per_step: Critic updates per environment step; by default 0.2 or 0.4 with goals, 1 without.
        hidden: Width of the two hidden layers of policy and critics; by default 256, or 128 with goals and
            fewer than 400,000 steps.
        particles: Number of the policy's particles; by default 16.
        initial_tau: Temperature at the start; by default 0.1. From 1 the policy keeps several ways to do a
            task.
        temperature_pace: Step size of the temperature, times that of the networks; by default 1. From a warm
            start 3 is quicker.
        device: Torch device for the updates; by default cpu.
        one_process: Do everything in one process. By default, where two cores may be used, the policy and,
            with goals, the environments have processes of their own; the results are the same.
        compile: Compile the updates first, which takes a minute or two: for long trainings and GPUs.
    """
    options = {
        "steps": steps,
        "stop_at_success": stop_at_success,
        "max_seconds": max_seconds,
        "seed": seed,
        "num_envs": num_envs,
        "updates_per_step": updates_per_step,
        "hidden": hidden,
        "particles": particles,
        "initial_tau": initial_tau,
        "temperature_pace": temperature_pace,
        "device": device,
        "demonstrations": None if demonstrations is None else str(demonstrations.resolve()),
        "overlap": False if one_process else None,
        "compile": compile or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    kwargs = env_kwargs(robot=robot, actuators=actuators, control=control)
    if resume is not None:
        named = {"ENV": env, "--out": out, "--robot": robot, "--actuators": actuators, "--control": control}
        refused = [name for name, value in named.items() if value is not None]
        refused += [f"--{name.replace('_', '-')}" for name in given if name not in ANEW]
        if refused:
            raise UsageError(f"--resume takes all else from the run: leave out {', '.join(refused)}")
        _resume(resume, given)
        return
    if env is None:
        raise UsageError("which environment? `wpg train ENV`; `wpg list` shows what there is")
    if steps is None and stop_at_success is None:
        given |= _enough(env)
    if particles is not None:
        given["num_particles"] = given.pop("particles")
    folder = out or Path("runs") / f"{env.rpartition('/')[2]}-seed{seed or 0}"
    refuse_existing(folder, f"--out{_or_else(folder)}")
    with naming(actuators):
        _begin(env, folder, given | {"env_kwargs": kwargs})


def _or_else(folder: Path) -> str:
    """What can be done with a folder that was to be a new run's."""
    if (folder / "checkpoint").exists():
        return f", or go on with it by --resume {shlex.quote(str(folder))}"
    return ", or remove it: that run has no checkpoint" if (folder / "config.yaml").exists() else ""


def _begin(env: str, folder: Path, settings: dict[str, Any]) -> None:
    """Begin a run in ``env``."""
    from wpg.controllers import train  # noqa: PLC0415  torch: not in the bare bridge

    config = _config(env, settings)
    _run(folder, lambda bar: train(config, out=folder, on_progress=bar))


def _resume(folder: Path, settings: dict[str, Any]) -> None:
    """Go on with the run in ``folder``."""
    from wpg.controllers import resume  # noqa: PLC0415  torch: not in the bare bridge

    _config("", settings)  # says which option is wrong
    result = _run(folder, lambda bar: resume(folder, **settings, on_progress=bar))
    if result.stopped_by == "steps":
        terminal().print(f"to train on: --resume {shlex.quote(str(folder))} --steps N", soft_wrap=True)


def _run(folder: Path, work: "Callable[[ProgressBar], TrainResult]") -> "TrainResult":
    """Do the work on the run in ``folder``, export it, and say how it ended."""
    from wpg.controllers import ProgressBar  # noqa: PLC0415  torch: not in the bare bridge
    from wpg.export import export_run  # noqa: PLC0415

    console = terminal()
    try:
        with interrupted_by_sigterm(), ProgressBar(console) as bar:
            result = work(bar)
    except KeyboardInterrupt:
        if not folder.exists():
            raise
        if not (folder / "checkpoint").exists():
            raise KeyboardInterrupt(f"{folder} has no checkpoint yet, it may be removed") from None
        command = shlex.join(("wpg", "train", "--resume", str(folder)))
        raise KeyboardInterrupt(f"to go on from the last checkpoint: {command}") from None
    artifact = export_run(result.folder, result.folder / "policy.onnx")
    console.print(
        f"{result.steps:,} steps in {result.train_seconds:.0f} s, stopped by {result.stopped_by}; "
        f"{_last_evaluation(result)}",
        soft_wrap=True,
    )
    command = shlex.join(("wpg", "evaluate", str(result.folder)))
    console.print(f"exported to {artifact}; next: {command}", soft_wrap=True)
    return result


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM, which schedulers and ``timeout`` send, ends the block as Ctrl-C does."""

    def interrupt(*signalled: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _enough(env: str) -> dict[str, Any]:
    """Where training ends unless steps or a success are asked for."""
    from wpg.sim_envs.registration import train_steps  # noqa: PLC0415  needs gymnasium

    steps = train_steps(env)
    return {"stop_at_success": ENOUGH_SUCCESS} if steps is None else {"steps": steps}


def _config(env: str, settings: dict[str, Any]) -> "TrainConfig":
    from wpg.controllers import ConfigError, TrainConfig  # noqa: PLC0415

    try:
        return TrainConfig(env=env, **settings)
    except ConfigError as error:
        raise usage_error(error, num_particles="particles") from error


def _last_evaluation(result: "TrainResult") -> str:
    if result.return_mean is None:
        return "nothing was evaluated"
    success = "not reported" if result.success_rate is None else format(result.success_rate, ".0%")
    return f"last evaluation: return {result.return_mean:.1f}, success {success}"
