"""Training: act, step, learn, evaluate, log, checkpoint."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wpg.controllers import checkpoint
from wpg.controllers.config import TrainConfig, default_gamma, default_random_steps
from wpg.controllers.environment import Env, FloatArray, inspect_env, make_env
from wpg.controllers.errors import CheckpointFormatError, DivergenceError, RunFolderError
from wpg.controllers.evaluation import evaluate
from wpg.controllers.flow import draw
from wpg.controllers.learner import METRICS, Learner
from wpg.controllers.metrics import MetricsLog, Row
from wpg.controllers.network import FoldedMlp
from wpg.controllers.progress import OnProgress, TrainProgress
from wpg.controllers.replay import make_replay
from wpg.controllers.rollout import Rollout
from wpg.controllers.run import CHECKPOINT_NAME, CONFIG_NAME, build_networks, make_act, spec_to_json

PROGRESS_SECONDS = 0.5


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

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        env_factory: Callable[[], Env],
        on_progress: OnProgress | None,
    ) -> None:
        self.config, self.folder, self.on_progress = config, folder, on_progress
        self.eval_env = env_factory()
        self.spec = inspect_env(self.eval_env)
        self.gamma = config.gamma or default_gamma(self.spec)
        random_steps = config.random_steps
        self.random_steps = (
            default_random_steps(self.spec, config.steps) if random_steps is None else random_steps
        )
        generator = torch.Generator().manual_seed(config.seed)
        policy, critic = build_networks(self.spec, config, generator)
        for module in (*policy.modules(), *critic.modules()):
            if isinstance(module, FoldedMlp):
                module.low_precision = config.low_precision()
        entropy = config.target_entropy
        self.learner = Learner(
            policy.to(config.device),
            critic.to(config.device),
            gamma=self.gamma,
            learning_rate=config.learning_rate,
            actor_period=config.actor_period,
            initial_tau=config.initial_tau,
            target_entropy=-float(self.spec.action_dim) if entropy is None else entropy,
            norm_warmup=config.norm_warmup,
            generator=generator,
        )
        self.rollout = Rollout(env_factory, self.spec, config.num_envs, config.seed)
        self.replay = make_replay(self.spec, config.replay_capacity, self.eval_env, config.hindsight_ratio)
        self.step = 0
        self.streak = 0
        self.last_eval: tuple[float, float | None] | None = None
        self._checkpoint_due = False
        self._resumed_step = 0
        self._eval_seconds = 0.0
        self._started = time.perf_counter()
        self._shown = self._started

    def run(self, log: MetricsLog) -> TrainResult:
        """Train until steps, success or time say stop; the last act is a checkpoint."""
        self._resumed_step = self.step
        self._started = self._shown = time.perf_counter()
        self.rollout.begin_all()
        stopped_by = None
        while stopped_by is None:
            ended = self._advance()
            self._report(log)
            stopped_by = self._stop_reason()
            if self._at_boundary(ended) or stopped_by is not None:
                self._save()
        self._show()
        seconds = time.perf_counter() - self._started
        returned, success = self.last_eval or (None, None)
        return TrainResult(
            folder=self.folder,
            steps=self.step,
            updates=self.learner.updates,
            train_seconds=seconds - self._eval_seconds,
            eval_seconds=self._eval_seconds,
            return_mean=returned,
            success_rate=success,
            stopped_by=stopped_by,
        )

    def _advance(self) -> bool:
        """The updates that are due, then one step of every environment."""
        actions = self._choose_actions()
        if self.step >= self.random_steps and self.replay.size:
            ratio = self.config.updates_per_step
            for _ in range(int((self.step + self.config.num_envs) * ratio) - int(self.step * ratio)):
                batch = self.replay.sample(self.config.batch_size, self.learner.generator)
                self.learner.update(batch.to(self.config.device))
        self.step += self.config.num_envs
        return self.rollout.step(actions, self.replay)

    @torch.no_grad()
    def _choose_actions(self) -> FloatArray:
        generator = self.learner.generator
        if self.step < self.random_steps:
            return (
                torch.rand(self.config.num_envs, self.spec.action_dim, generator=generator) * 2 - 1
            ).numpy()
        mean, log_std = self.learner.policy(torch.from_numpy(self.rollout.obs).to(self.config.device))
        actions: FloatArray = torch.tanh(draw(mean, log_std, generator=generator)).cpu().numpy()
        return actions

    def _passed(self, period: int) -> bool:
        """True where this step reached or passed a multiple of `period`."""
        return self.step // period > (self.step - self.config.num_envs) // period

    def _report(self, log: MetricsLog) -> None:
        tenth = max(self.config.steps // 10, 1)
        evaluation: Row = {}
        eval_period = tenth if self.config.eval_period is None else self.config.eval_period
        if eval_period and self._passed(eval_period) and self.step >= self.random_steps:
            evaluation = self._evaluate()
        if evaluation or self._passed(self.config.log_period):
            self._check_finite()
            log.write(self._row() | evaluation)
        if self._passed(self.config.checkpoint_period or tenth):
            self._checkpoint_due = True
        if time.perf_counter() - self._shown > PROGRESS_SECONDS:
            self._show()

    def _evaluate(self) -> Row:
        begun = time.perf_counter()
        act = make_act(
            self.learner.policy, self.learner.critic, self.spec, self.config.select, seed=self.config.seed
        )
        result = evaluate(act, self.eval_env, self.config.eval_episodes, seed=self.config.seed)
        self.last_eval = result.return_mean, result.success_rate
        goal = self.config.stop_at_success
        reached = goal is not None and result.success_rate is not None and result.success_rate >= goal
        self.streak = self.streak + 1 if reached else 0
        self._eval_seconds += time.perf_counter() - begun
        return {"eval_return": result.return_mean, "eval_success": result.success_rate}

    def _row(self) -> Row:
        metrics = dict(zip(METRICS, self.learner.metrics.tolist(), strict=True))
        seconds = time.perf_counter() - self._started
        return {
            "step": self.step,
            "episodes": self.rollout.finished,
            "updates": self.learner.updates,
            "return_mean": self.rollout.mean_return(),
            "success_rate": self.rollout.success_rate(),
            "episode_length": self.rollout.mean_length(),
            "tau": self.learner.tau(),
            "seconds": round(seconds, 3),
            "steps_per_s": round(self._pace(), 1),
            **metrics,
        }

    def _pace(self) -> float:
        seconds = time.perf_counter() - self._started - self._eval_seconds
        return (self.step - self._resumed_step) / max(seconds, 1e-9)

    def _show(self) -> None:
        self._shown = time.perf_counter()
        if self.on_progress is None:
            return
        success = self.last_eval[1] if self.last_eval else self.rollout.success_rate()
        pace = self._pace()
        self.on_progress(
            TrainProgress(
                step=self.step,
                total_steps=self.config.steps,
                episodes=self.rollout.finished,
                return_mean=self.rollout.mean_return(),
                success_rate=success,
                tau=self.learner.tau(),
                particle_spread=float(self.learner.metrics[METRICS.index("particle_spread")]),
                steps_per_s=pace,
                seconds_left=max(self.config.steps - self.step, 0) / max(pace, 1e-9),
            )
        )

    def _stop_reason(self) -> str | None:
        if self.step >= self.config.steps:
            return "steps"
        if self.streak >= self.config.stop_evaluations:
            return "success"
        limit = self.config.max_seconds
        if limit is not None and time.perf_counter() - self._started >= limit:
            return "time"
        return None

    def _at_boundary(self, ended: bool) -> bool:
        """True where a due checkpoint can be taken: an episode has just ended, or none ends by itself."""
        return self._checkpoint_due and (ended or self.spec.horizon is None)

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

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "updates": self.learner.updates,
            "position": self.replay.position,
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
                "gamma": self.gamma,
                "tau": self.learner.tau(),
                "success_rate": self.last_eval[1] if self.last_eval else None,
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
        self.learner.restore(tensors, state["updates"])
        self.replay.restore(replay, state["position"])
        self.rollout.restore(state["rollout"])
        self.step, self.streak = state["step"], state["streak"]
        self.last_eval = tuple(state["last_eval"]) if state["last_eval"] else None

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

    Writes `config.yaml`, `metrics.csv`, TensorBoard event files under `tb/`, and `checkpoint/`.

    Args:
        config: settings.
        out: run folder; must not exist.
        on_progress: called about twice a second.
        env_factory: makes the environment where it is not registered; `config.env` is then only its name.

    Raises:
        RunFolderError: `out` exists.
        UnknownEnvError, UnsupportedEnvError: the environment cannot be made, or not be learned.
        DivergenceError: a quantity stopped being finite; the last checkpoint is intact.
        CheckpointWriteError: the disk is full; the last checkpoint is intact.
    """
    folder = Path(out)
    if folder.exists():
        raise RunFolderError(f"the run folder {folder} exists already; choose another, or resume it")
    trainer = Trainer(config, folder, env_factory or functools.partial(make_env, config.env), on_progress)
    folder.mkdir(parents=True)
    config.save(folder / CONFIG_NAME)
    return _run(trainer, resume_step=None)


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
        ConfigError, CheckpointFormatError: its settings or its checkpoint cannot be read.
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no {CONFIG_NAME}")
    config = TrainConfig.load(folder / CONFIG_NAME)
    if steps is not None:
        config = config.extended(steps)
        config.save(folder / CONFIG_NAME)
    config = replace(config, max_seconds=max_seconds)
    trainer = Trainer(config, folder, env_factory or functools.partial(make_env, config.env), on_progress)
    try:
        trainer.restore()
    except BaseException:
        trainer.close()
        raise
    return _run(trainer, resume_step=trainer.step)


def _run(trainer: Trainer, *, resume_step: int | None) -> TrainResult:
    threads = torch.get_num_threads()
    denormals_flushed = torch.set_flush_denormal(True)
    try:
        if trainer.config.threads is not None:
            torch.set_num_threads(trainer.config.threads)
        with MetricsLog(trainer.folder, resume_step=resume_step) as log:
            return trainer.run(log)
    finally:
        torch.set_num_threads(threads)
        if denormals_flushed:
            torch.set_flush_denormal(False)
        trainer.close()
