"""The training loop of one run: act, step, learn, evaluate, write checkpoints."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from wpg.controllers.algorithm.flow import sample
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.algorithm.tensor_names import under
from wpg.controllers.config import TrainConfig, learner_settings
from wpg.controllers.errors import CheckpointFormatError, DemonstrationError, DivergenceError, FaultyEnvError
from wpg.controllers.experience.declared_interface import check_interface, declared_interface
from wpg.controllers.experience.demonstrations import load_demonstrations
from wpg.controllers.experience.environment import (
    Env,
    FloatArray,
    flattened,
    inspect_env,
    make_env,
    policy_view,
    versioned_id,
)
from wpg.controllers.experience.environment_checks import check_first_step, distinct
from wpg.controllers.experience.evaluation import Evaluation
from wpg.controllers.experience.exploration import HeldRandomActions
from wpg.controllers.experience.replay import Shares, make_replay
from wpg.controllers.forked_process import overlaps
from wpg.controllers.training import checkpoint
from wpg.controllers.training.checkpoint import RunMetadata, TrainState
from wpg.controllers.training.envs import make_training_envs
from wpg.controllers.training.evaluations import TrainingEvaluation
from wpg.controllers.training.monitor import Monitor
from wpg.controllers.training.provenance import checkout_commit, installed_versions
from wpg.controllers.training.rollout import Rollout
from wpg.controllers.training.run_folder import CHECKPOINT_NAME, build_networks, fitting, has_checkpoint

StopReason = Literal["steps", "success", "time"]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a training ended."""

    folder: Path
    """The run folder."""
    steps: int
    """Environment steps of the whole run."""
    updates: int
    """Critic updates of the whole run."""
    train_seconds: float
    """Duration of this call without its evaluations."""
    eval_seconds: float
    """Duration of this call's evaluations."""
    return_mean: float | None
    """Mean return of the last evaluation; None if there was none."""
    success_rate: float | None
    """Success rate of the last evaluation; None if there was none, or the environment reports no success."""
    stopped_by: StopReason
    """The limit that was reached: of steps, of the success rate or of the time."""


class Trainer:
    """One training run: networks, replay memory, environments and run folder.

    As a context manager it closes the environments and the actor's process at the end.
    """

    def __init__(self, config: TrainConfig, folder: Path, env_factory: Callable[[], Env] | None) -> None:
        config.check_machine()
        self.folder = folder
        if env_factory is not None:
            env_factory = distinct(env_factory)
        make = env_factory or partial(make_env, config.env, **config.env_kwargs)
        with ExitStack() as opened:
            env = flattened(opened.enter_context(closing(make())))
            if env_factory is None:
                config = replace(config, env=versioned_id(config.env, env))
            check_first_step(env, inspect_env(env))
            seen = policy_view(env)
            self.spec = inspect_env(seen)
            self.config = config.resolve(self.spec)
            self.learner = opened.enter_context(closing(self._make_learner()))
            envs = make_training_envs(self.config, self.spec, env.observation_space, env_factory)
            self.rollout = Rollout(opened.enter_context(closing(envs)), self.spec, config.seed)
            self.evaluation = TrainingEvaluation(seen, self.spec, self.config)
            self.replay = make_replay(
                self.spec,
                config.replay_capacity,
                seen,
                hindsight_ratio=config.hindsight_ratio,
                shares=Shares(recent=self.config.recent_share, kept=config.demonstration_share),
            )
            self._opened = opened.pop_all()
        self.random_actions = HeldRandomActions(
            self.config.num_envs, self.spec.action_dim, self.config.random_hold
        )
        self.step = 0
        self._checkpoint_due = False
        self._metadata = partial(
            RunMetadata,
            env=self.config.env,
            env_factory=env_factory is not None,
            interface=declared_interface(env),
            seed=self.config.seed,
            gamma=self.config.gamma,
            git_commit=checkout_commit(),
            packages=installed_versions(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._opened.close()

    def _make_learner(self) -> Learner:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed)
        policy, critic = build_networks(self.spec, config, generator)
        return Learner(
            policy.to(config.device),
            critic.to(config.device),
            learner_settings(config),
            generator=generator,
            actor_process=config.device == "cpu" and config.threads == 1 and overlaps(config.overlap),
        )

    def add_demonstrations(self, demonstrations: str) -> None:
        """Put the episodes of this file into the replay memory, which never overwrites them."""
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
        """Train until the steps are done, the success rate is reached or the time is up; then checkpoint."""
        self.rollout.begin_all()
        # A run that is resumed after its end stays as it is. A new run trains at least one step, so that it
        # has a checkpoint.
        stopped_by = self._stop_reason(monitor) if self.step else None
        while stopped_by is None:
            ended = self._advance()
            self._report(monitor)
            stopped_by = self._stop_reason(monitor)
            if stopped_by is not None or (self._checkpoint_due and (ended or self.spec.horizon is None)):
                self._save()
        last = self.evaluation.last
        monitor.show(self.step, now=True)
        return TrainResult(
            folder=self.folder,
            steps=self.step,
            updates=self.learner.updates,
            train_seconds=monitor.seconds() - monitor.eval_seconds,
            eval_seconds=monitor.eval_seconds,
            return_mean=last.return_mean,
            success_rate=last.success_rate,
            stopped_by=stopped_by,
        )

    def _advance(self) -> bool:
        """Step every environment and make the updates that are due; True if an episode ended."""
        self.rollout.begin_step(self._choose_actions())
        if self.step >= self.config.learning_starts and self.replay.size:
            self._set_learning_rate()
            ratio = self.config.updates_per_step
            for _ in range(int((self.step + self.config.num_envs) * ratio) - int(self.step * ratio)):
                batch = self.replay.sample(self.config.batch_size, self.learner.generator)
                self.learner.update(batch.to(self.config.device))
        self.step += self.config.num_envs
        try:
            return self.rollout.finish_step(self.replay)
        except Exception:
            self._check_finite()  # the cause may be a diverged policy, whose actions are not finite
            raise

    def _set_learning_rate(self) -> None:
        done = min(self.step / (self.config.decay_steps or self.config.steps), 1.0)
        share = 1 - done * (1 - self.config.final_learning_rate_share)
        self.learner.set_learning_rate(self.config.learning_rate * share)

    @torch.no_grad()
    def _choose_actions(self) -> FloatArray:
        generator = self.learner.generator
        if self.step < self.config.learning_starts:
            return self.random_actions.mix(np.zeros_like(self.random_actions.held), 1.0, generator)
        mixture = self.learner.frozen_policy(torch.from_numpy(self.rollout.obs).to(self.config.device))
        actions: FloatArray = torch.tanh(sample(mixture, generator=generator)).cpu().numpy()
        return self.random_actions.mix(actions, self.config.random_share, generator)

    def _passed(self, period: int) -> bool:
        """Whether this step reached or passed a multiple of `period`."""
        return self.step // period > (self.step - self.config.num_envs) // period

    def _report(self, monitor: Monitor) -> None:
        period = self.config.eval_period
        due = period > 0 and self._passed(period) and self.step >= self.config.learning_starts
        evaluation = None
        self._checkpoint_due |= self._passed(self.config.checkpoint_period)
        if due or self._passed(self.config.log_period):
            self._check_finite()
            if due:
                with monitor.evaluating():
                    evaluation = self._evaluate()
            monitor.write(self.step, evaluation)
        monitor.show(self.step, evaluation)

    def _evaluate(self) -> Evaluation:
        """Evaluate the policy; if the environment fails at that, write the checkpoint that is due first."""
        try:
            return self.evaluation.evaluate(self.learner, self.step)
        except FaultyEnvError as error:
            if self._checkpoint_due:
                self._save()
            raise FaultyEnvError(f"{error}. With eval_period=0 a training makes no evaluations") from error

    def _stop_reason(self, monitor: Monitor) -> StopReason | None:
        if self.evaluation.succeeded():
            return "success"
        if self.step >= self.config.steps:
            return "steps"
        limit = self.config.max_seconds
        return "time" if limit is not None and monitor.seconds() >= limit else None

    def _check_finite(self) -> None:
        fault = self.learner.first_fault()
        if fault is not None:
            path = self.folder / CHECKPOINT_NAME
            kept = f"; the last checkpoint in {path} is from before" if has_checkpoint(self.folder) else ""
            raise DivergenceError(
                f"training diverged at step {self.step}: {fault}{kept}. "
                "A smaller learning_rate, or smaller observations or rewards, may help"
            )

    def _save(self) -> None:
        """Write a checkpoint; running episodes are truncated here, since they cannot be saved."""
        self._check_finite()
        self._checkpoint_due = False
        self.rollout.truncate_all(self.replay)
        tensors = {f"replay.{name}": value for name, value in self.replay.tensors().items()}
        checkpoint.write(self.folder / CHECKPOINT_NAME, tensors | self.learner.tensors(), self._state())
        self.rollout.begin_all()
        self.random_actions.reset()

    def _state(self) -> TrainState:
        return TrainState(
            position=self.replay.position,
            kept=self.replay.kept,
            streak=self.evaluation.streak,
            last_eval=self.evaluation.last,
            rollout=self.rollout.state(),
            spec=self.spec,
            metadata=self._metadata(
                steps=self.step,
                updates=self.learner.updates,
                episodes=self.rollout.finished,
                tau=self.learner.tau(),
                success_rate=self.evaluation.last.success_rate,
            ),
        )

    def restore(self) -> None:
        """Continue from the folder's checkpoint.

        Raises:
            CheckpointFormatError: it cannot be read, or does not fit the environment or the settings.
        """
        tensors, state = checkpoint.read(self.folder / CHECKPOINT_NAME)
        if state.spec != self.spec:
            raise CheckpointFormatError(f"{self.folder} was trained on {state.spec}, not on {self.spec}")
        check_interface(state.metadata.interface, self.evaluation.env)
        with fitting(self.folder):
            self.learner.restore(tensors, state.metadata.updates)
            self.replay.restore(under(tensors, "replay."), state.position, state.kept)
        self.rollout.restore(state.rollout)
        self.evaluation.streak, self.evaluation.last = state.streak, state.last_eval
        self.step = state.metadata.steps
