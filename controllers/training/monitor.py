"""Metrics and progress of a running training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.config import ResolvedConfig
from wpg.controllers.experience.evaluation import Evaluation
from wpg.controllers.training.metrics import MetricsLog, Row
from wpg.controllers.training.progress import OnProgress, TrainProgress
from wpg.controllers.training.rollout import Rollout

PROGRESS_SECONDS = 0.5


class Monitor:
    """Measures the time of one call of `train` or `resume`, writes its metrics and reports its progress."""

    def __init__(
        self,
        config: ResolvedConfig,
        learner: Learner,
        rollout: Rollout,
        *,
        first_step: int,
        log: MetricsLog,
        on_progress: OnProgress | None,
    ) -> None:
        self.config, self.learner, self.rollout = config, learner, rollout
        self.first_step, self.log, self.on_progress = first_step, log, on_progress
        self.eval_seconds = 0.0
        self._started = self._shown = time.perf_counter()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Context of an evaluation, whose time counts in `eval_seconds` and not in the pace."""
        begun = time.perf_counter()
        yield
        self.eval_seconds += time.perf_counter() - begun

    def seconds(self) -> float:
        """Seconds since the call began."""
        return time.perf_counter() - self._started

    def pace(self, step: int) -> float:
        """Environment steps per second, without the time of evaluations."""
        return (step - self.first_step) / max(self.seconds() - self.eval_seconds, 1e-9)

    def write(self, step: int, evaluation: Evaluation | None) -> None:
        """Append a row to metrics.csv and TensorBoard."""
        row: Row = {
            "step": step,
            "episodes": self.rollout.finished,
            "updates": self.learner.updates,
            "return_mean": self.rollout.mean_return(),
            "success_rate": self.rollout.success_rate(),
            "episode_length": self.rollout.mean_length(),
            "tau": self.learner.tau(),
            "seconds": round(self.log.seconds_before + self.seconds(), 3),
            "steps_per_s": round(self.pace(step), 1),
            **self.learner.metrics(),
        }
        if evaluation is not None:
            row |= {"eval_return": evaluation.return_mean, "eval_success": evaluation.success_rate}
        self.log.write(row)

    def show(self, step: int, evaluation: Evaluation | None = None, *, now: bool = False) -> None:
        """Call `on_progress`, at most about twice a second unless `now` or with an evaluation."""
        now |= evaluation is not None
        if self.on_progress is None or not (now or time.perf_counter() - self._shown > PROGRESS_SECONDS):
            return
        self._shown = time.perf_counter()
        pace = self.pace(step)
        progress = TrainProgress(
            step=step,
            total_steps=self.config.steps,
            episodes=self.rollout.finished,
            return_mean=self.rollout.mean_return(),
            success_rate=self.rollout.success_rate(),
            tau=self.learner.tau(),
            particle_spread=self.learner.metrics()["particle_spread"],
            steps_per_s=pace,
            seconds_left=max(self.config.steps - step, 0) / pace if pace > 0 else None,
            evaluation=evaluation,
        )
        self.on_progress(progress)
