"""Training: act, step, learn, evaluate, checkpoint."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wpg.controllers import checkpoint
from wpg.controllers.config import TrainConfig
from wpg.controllers.demonstrations import load_demonstrations
from wpg.controllers.environment import Env, FloatArray, inspect_env, make_env, make_envs, versioned_id
from wpg.controllers.errors import (
    CheckpointFormatError,
    ConfigError,
    DemonstrationError,
    DivergenceError,
    RunFolderError,
)
from wpg.controllers.evaluation import Evaluation, evaluate
from wpg.controllers.exploration import Excursions
from wpg.controllers.flow import draw
from wpg.controllers.learner import Learner
from wpg.controllers.metrics import MetricsLog
from wpg.controllers.monitor import Monitor
from wpg.controllers.picture import draw_training
from wpg.controllers.processor import tuned
from wpg.controllers.progress import OnProgress
from wpg.controllers.replay import make_replay
from wpg.controllers.rollout import Rollout
from wpg.controllers.run import CHECKPOINT_NAME, CONFIG_NAME, build_networks, make_act, spec_to_json
from wpg.controllers.stepping import InProcess, OwnProcess, Stepping, has_spare_core


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a training ended."""

    folder: Path
    """The run folder."""
    steps: int
    """Environment steps done in all."""
    updates: int
    """Critic updates done in all."""
    train_seconds: float
    """Seconds of this call, evaluations left out."""
    eval_seconds: float
    """Seconds of this call's evaluations."""
    return_mean: float | None
    """Mean return of the last evaluation."""
    success_rate: float | None
    """Success rate of the last evaluation."""
    stopped_by: str
    """`steps`, `success` or `time`."""


class Trainer:
    """One run: networks, replay, environments, and the folder they are written to."""

    def __init__(self, config: TrainConfig, folder: Path, env_factory: Callable[[], Env] | None) -> None:
        config.check_machine()
        self.folder = folder
        make = env_factory or partial(make_env, config.env, **config.env_kwargs)
        self.eval_env = make()
        if env_factory is None:
            config = replace(config, env=versioned_id(config.env, self.eval_env))
        self.spec = inspect_env(self.eval_env)
        self.config = config.resolve(self.spec)
        generator = torch.Generator().manual_seed(config.seed)
        policy, critic = build_networks(self.spec, self.config, generator)
        self.learner = Learner(
            policy.to(config.device),
            critic.to(config.device),
            gamma=self.config.gamma,
            learning_rate=self.config.learning_rate,
            actor_period=self.config.actor_period,
            initial_tau=config.initial_tau,
            target_entropy=self.config.target_entropy,
            norm_warmup=config.norm_warmup,
            low_precision=config.low_precision(),
            compiled=config.compile,
            generator=generator,
        )
        self.rollout = Rollout(self._make_envs(env_factory), self.spec, config.seed)
        self.replay = make_replay(
            self.spec,
            config.replay_capacity,
            self.eval_env,
            hindsight_ratio=config.hindsight_ratio,
            kept_share=config.demonstration_share,
        )
        self.excursions = Excursions(self.config.num_envs, self.spec.action_dim, self.config.random_hold)
        self.step = 0
        self.streak = 0
        self.last_eval: tuple[float, float | None] = (0.0, None)
        self._checkpoint_due = False

    def _make_envs(self, factory: Callable[[], Env] | None) -> Stepping:
        """In a process of their own by `overlap`, or where that pays: with goals and a core to spare.

        Environments without goals step one at a time, in a small part of the time of an update. A factory may
        share what it likes with its caller, which a process cannot.
        """
        config = self.config
        make = partial(make_envs, config.env, config.num_envs, factory, **config.env_kwargs)
        pays = factory is None and self.spec.goal_dim > 0 and has_spare_core()
        apart = pays if config.overlap is None else config.overlap
        return OwnProcess(make, config.num_envs) if apart else InProcess(make())

    def see(self, demonstrations: str) -> None:
        """Put the episodes of this file into the replay memory, to stay there."""
        episodes = load_demonstrations(demonstrations, self.spec)
        rows, most = sum(len(episode.actions) for episode in episodes), self.config.replay_capacity // 2
        if rows > most:
            raise DemonstrationError(
                f"{demonstrations}: expected at most {most:,} steps, half of replay_capacity, found {rows:,}"
            )
        for episode in episodes:
            for step in episode.transitions(self.spec):
                self.replay.add(step)
            self.replay.end_episode(0)
        self.replay.keep()

    def run(self, monitor: Monitor) -> TrainResult:
        """Train until steps, success or time say stop; the last act is a checkpoint."""
        self.rollout.begin_all()
        stopped_by = self._stop_reason(monitor)  # a run that was over when it was resumed stays as it is
        while stopped_by is None:
            ended = self._advance()
            self._report(monitor)
            stopped_by = self._stop_reason(monitor)
            if stopped_by is not None or (self._checkpoint_due and (ended or self.spec.horizon is None)):
                self._save()
        monitor.show(self.step, self.last_eval[1], now=True)
        return TrainResult(
            folder=self.folder,
            steps=self.step,
            updates=self.learner.updates,
            train_seconds=monitor.seconds() - monitor.eval_seconds,
            eval_seconds=monitor.eval_seconds,
            return_mean=self.last_eval[0],
            success_rate=self.last_eval[1],
            stopped_by=stopped_by,
        )

    def _advance(self) -> bool:
        """One step of every environment, the updates that are due meanwhile; True where an episode ended."""
        self.rollout.begin_step(self._choose_actions())
        if self.step >= self.config.random_steps and self.replay.size:
            self._set_learning_rate()
            ratio = self.config.updates_per_step
            for _ in range(int((self.step + self.config.num_envs) * ratio) - int(self.step * ratio)):
                batch = self.replay.sample(self.config.batch_size, self.learner.generator)
                self.learner.update(batch.to(self.config.device))
        self.step += self.config.num_envs
        return self.rollout.finish_step(self.replay)

    def _set_learning_rate(self) -> None:
        done = min(self.step / self.config.steps, 1.0)
        share = 1 - done * (1 - self.config.final_learning_rate)
        self.learner.set_learning_rate(self.config.learning_rate * share)

    @torch.no_grad()
    def _choose_actions(self) -> FloatArray:
        generator = self.learner.generator
        if self.step < self.config.random_steps:
            return self.excursions.mix(np.zeros_like(self.excursions.held), 1.0, generator)
        mixture = self.learner.resting(torch.from_numpy(self.rollout.obs).to(self.config.device))
        actions: FloatArray = torch.tanh(draw(mixture, generator=generator)).cpu().numpy()
        return self.excursions.mix(actions, self.config.random_share, generator)

    def _passed(self, period: int) -> bool:
        """True where this step reached or passed a multiple of `period`."""
        return self.step // period > (self.step - self.config.num_envs) // period

    def _report(self, monitor: Monitor) -> None:
        evaluation, period = None, self.config.eval_period
        if period and self._passed(period) and self.step >= self.config.random_steps:
            evaluation = self._evaluate(monitor)
        if evaluation is not None or self._passed(self.config.log_period):
            self._check_finite()
            monitor.write(self.step, evaluation)
        self._checkpoint_due |= self._passed(self.config.checkpoint_period)
        monitor.show(self.step, self.last_eval[1])

    def _evaluate(self, monitor: Monitor) -> Evaluation:
        begun = time.perf_counter()
        learner, seed = self.learner, self.config.seed
        act = make_act(learner.average, learner.critic, self.spec, self.config.select, seed=seed)
        result = evaluate(act, self.eval_env, self.config.eval_episodes, seed=seed)
        self.last_eval = result.return_mean, result.success_rate
        goal = self.config.stop_at_success
        reached = goal is not None and result.success_rate is not None and result.success_rate >= goal
        self.streak = self.streak + 1 if reached else 0
        monitor.eval_seconds += time.perf_counter() - begun
        return result

    def _stop_reason(self, monitor: Monitor) -> str | None:
        if self.streak >= self.config.stop_evaluations:
            return "success"
        if self.step >= self.config.steps:
            return "steps"
        limit = self.config.max_seconds
        return "time" if limit is not None and monitor.seconds() >= limit else None

    def _check_finite(self) -> None:
        fault = self.learner.first_fault()
        if fault is not None:
            raise DivergenceError(
                f"training diverged at step {self.step}: {fault}; the last checkpoint in "
                f"{self.folder / CHECKPOINT_NAME} is from before. A smaller learning_rate may help"
            )

    def _save(self) -> None:
        """Checkpoint at an episode boundary: episodes that still run end here, as truncations."""
        self._check_finite()
        self._checkpoint_due = False
        self.rollout.cut(self.replay)
        tensors = {f"replay.{name}": value for name, value in self.replay.tensors().items()}
        checkpoint.write(self.folder / CHECKPOINT_NAME, tensors | self.learner.tensors(), self._state())
        self.rollout.begin_all()
        self.excursions.end()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "position": self.replay.position,
            "kept": self.replay.kept,
            "streak": self.streak,
            "last_eval": self.last_eval,
            "rollout": self.rollout.state(),
            "spec": spec_to_json(self.spec),
            "metadata": {
                "env": self.config.env,
                "seed": self.config.seed,
                "steps": self.step,
                "updates": self.learner.updates,
                "episodes": self.rollout.finished,
                "gamma": self.config.gamma,
                "tau": self.learner.tau(),
                "success_rate": self.last_eval[1],
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
        }

    def restore(self) -> None:
        """Go on from the folder's checkpoint."""
        tensors, state = checkpoint.read(self.folder / CHECKPOINT_NAME)
        if state["spec"] != spec_to_json(self.spec):
            raise CheckpointFormatError(f"{self.folder} was trained on {state['spec']}, not on {self.spec}")
        replay = {
            name.removeprefix("replay."): t for name, t in tensors.items() if name.startswith("replay.")
        }
        self.learner.restore(tensors, state["metadata"]["updates"])
        self.replay.restore(replay, state["position"], state["kept"])
        self.rollout.restore(state["rollout"])
        self.step, self.streak = state["step"], state["streak"]
        returned, success = state["last_eval"]
        self.last_eval = returned, success

    def close(self) -> None:
        """Close the environments."""
        self.rollout.close()
        self.eval_env.close()


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
        out: run folder; must not exist.
        on_progress: called about twice a second.
        env_factory: makes the environment where it is not registered; `config.env` is then only its name.

    Raises:
        RunFolderError: `out` exists.
        UnknownEnvError, UnsupportedEnvError: the environment cannot be made, or not be learned.
        DivergenceError: a quantity stopped being finite; the last checkpoint is intact.
        DemonstrationError: the demonstrations cannot be read, or are of another environment.
        CheckpointWriteError: the disk is full; the last checkpoint is intact.
    """
    folder = Path(out)
    if folder.exists():
        raise RunFolderError(f"the run folder {folder} exists already; choose another, or resume it")
    trainer = Trainer(config, folder, env_factory)
    if config.demonstrations is not None:
        try:
            trainer.see(config.demonstrations)
        except BaseException:
            trainer.close()
            raise
    folder.mkdir(parents=True)
    trainer.config.save(folder / CONFIG_NAME)
    return _run(trainer, on_progress, resume_step=None)


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    max_seconds: float | None = None,
    on_progress: OnProgress | None = None,
    env_factory: Callable[[], Env] | None = None,
) -> TrainResult:
    """Go on with the run in `folder` from its last checkpoint, bit for bit as if it had not stopped.

    Args:
        folder: run folder of `train`.
        steps: new total of environment steps; None keeps the run's own. Evaluations and checkpoints
            keep the periods that the run began with.
        max_seconds: limit for this call; None for none.
        on_progress: called about twice a second.
        env_factory: as for `train`.

    Raises:
        RunFolderError: `folder` is no run folder.
        ConfigError: its settings cannot be read, or `steps` is less than it has done.
        CheckpointFormatError: its checkpoint cannot be read.
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no {CONFIG_NAME}")
    config = replace(TrainConfig.load(folder / CONFIG_NAME), max_seconds=max_seconds)
    if steps is not None:
        config = replace(config, steps=steps)
    trainer = Trainer(config, folder, env_factory)
    try:
        trainer.restore()
        if steps is not None and steps < trainer.step:
            raise ConfigError(f"{folder} has done {trainer.step:,} steps already; steps={steps:,} is less")
    except BaseException:
        trainer.close()
        raise
    if steps is not None:
        trainer.streak = 0
    trainer.config.save(folder / CONFIG_NAME)
    return _run(trainer, on_progress, resume_step=trainer.step)


def _run(trainer: Trainer, on_progress: OnProgress | None, *, resume_step: int | None) -> TrainResult:
    try:
        with tuned(trainer.config.threads), MetricsLog(trainer.folder, resume_step=resume_step) as log:
            monitor = Monitor(
                trainer.config,
                trainer.learner,
                trainer.rollout,
                first_step=resume_step or 0,
                log=log,
                on_progress=on_progress,
            )
            result = trainer.run(monitor)
        draw_training(trainer.folder)
        return result
    finally:
        trainer.close()
