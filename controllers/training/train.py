"""`train` and `resume`: training into a run folder, from the beginning or from the last checkpoint."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wpg.controllers.config import TrainConfig
from wpg.controllers.cpu import tuned
from wpg.controllers.errors import ConfigError, RunFolderError
from wpg.controllers.experience.environment import Env
from wpg.controllers.training.metrics import MetricsLog
from wpg.controllers.training.monitor import Monitor
from wpg.controllers.training.plot import plot_training
from wpg.controllers.training.progress import OnProgress
from wpg.controllers.training.run_folder import (
    CONFIG_NAME,
    has_checkpoint,
    is_unused,
    read_config,
    require_factory,
    sole_training,
)
from wpg.controllers.training.trainer import Trainer, TrainResult


def train(
    config: TrainConfig,
    *,
    out: str | Path,
    on_progress: OnProgress | None = None,
    env_factory: Callable[[], Env] | None = None,
) -> TrainResult:
    """Train a particle policy into the new run folder `out`.

    Writes `config.yaml`, `metrics.csv`, TensorBoard event files under `tb/`, `checkpoint/`, and at the end
    `training.png`.

    Args:
        config: settings.
        out: run folder; must not exist, or be empty.
        on_progress: called about twice a second, after each evaluation, and once at the end.
        env_factory: makes an environment that is not registered; `config.env` is then only its name.

    Raises:
        RunFolderError: `out` exists and is not empty.
        UnknownEnvError, UnsupportedEnvError: the environment cannot be made, or cannot be trained on.
        DivergenceError: a quantity stopped being finite; the last checkpoint is intact.
        DemonstrationError: the demonstrations cannot be read, or do not fit the environment.
        CheckpointWriteError: the disk is full; the last checkpoint is intact.
        ConfigError: this machine lacks something that the settings require.
        FaultyEnvError: the environment returned a number that is not finite, or an evaluated episode does not
            end; the last checkpoint is intact.
        ForkedProcessError: the process that steps the environments or updates the policy ended unexpectedly.
        OSError: the run folder cannot be written.
    """
    if not str(out):
        raise RunFolderError("out must be the path of a new run folder, it is empty")
    folder = Path(out)
    if not is_unused(folder):
        begun = (folder / CONFIG_NAME).exists()
        other = ", or remove it: that run has no checkpoint" if begun else ""
        if has_checkpoint(folder):
            other = ", or resume it"
        raise RunFolderError(f"the run folder {folder} exists already; choose another{other}")
    folder = folder.absolute()  # the environment may change the working directory
    with tuned(config.threads), Trainer(config, folder, env_factory) as trainer:
        if config.demonstrations is not None:
            trainer.add_demonstrations(config.demonstrations)
        folder.mkdir(parents=True, exist_ok=True)
        with sole_training(folder):
            return _run(trainer, on_progress, resume_step=None)


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    max_seconds: float | None = None,
    overlap: bool | None = None,
    on_progress: OnProgress | None = None,
    env_factory: Callable[[], Env] | None = None,
) -> TrainResult:
    """Continue the run in `folder` from its last checkpoint.

    A run that was killed or interrupted continues bit for bit as if it had not stopped, except for the times
    in its metrics. A run that ended, by its steps, its time or its success, has cut its running episodes
    short, so to train on from there is not the same as a longer training.

    Args:
        folder: run folder of `train`.
        steps: new total of environment steps; None keeps the run's own. The periods of evaluations and
            checkpoints and the decay of the learning rate stay as they were, so steps beyond the original
            total are trained at the final learning rate.
        max_seconds: time limit for this call; None for none.
        overlap: whether separate processes step the environments and update the policy; None keeps the
            run's own setting.
        on_progress: called about twice a second, after each evaluation, and once at the end.
        env_factory: as for `train`; a run that was trained with one needs it.

    Raises:
        RunFolderError: `folder` is no run folder, another process trains in it, or its metrics are damaged.
        ConfigError: its settings cannot be read or do not suit this machine, or it has already done more than
            `steps`.
        CheckpointFormatError: its checkpoint cannot be read, or does not fit the settings or the environment.
        UnknownEnvError, UnsupportedEnvError, FaultyEnvError, ForkedProcessError, DivergenceError,
            CheckpointWriteError, OSError: as for `train`.
    """
    folder = Path(folder).absolute()  # the environment may change the working directory
    config, metadata = read_config(folder)
    require_factory(metadata, env_factory)
    config = replace(config, max_seconds=max_seconds)
    if steps is not None:
        config = replace(config, steps=steps, decay_steps=config.decay_steps or config.steps)
    if overlap is not None:
        config = replace(config, overlap=overlap)
    with tuned(config.threads), Trainer(config, folder, env_factory) as trainer, sole_training(folder):
        trainer.restore()
        if steps is not None:
            trainer.evaluation.streak = 0
            if steps < trainer.step:
                done = f"{trainer.step:,} steps already"
                raise ConfigError(f"{folder} has done {done}; steps={steps:,} is less")
        return _run(trainer, on_progress, resume_step=trainer.step)


def _run(trainer: Trainer, on_progress: OnProgress | None, *, resume_step: int | None) -> TrainResult:
    with MetricsLog(trainer.folder, resume_step=resume_step) as log:  # before the settings: it may refuse
        trainer.config.save(trainer.folder / CONFIG_NAME)
        monitor = Monitor(
            trainer.config,
            trainer.learner,
            trainer.rollout,
            first_step=resume_step or 0,
            log=log,
            on_progress=on_progress,
        )
        result = trainer.run(monitor)
    plot_training(trainer.folder)
    return result
