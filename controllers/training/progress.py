"""The progress report of a running training, and its display on the console."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from wpg.controllers.experience.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """State of a running training."""

    step: int
    """Environment steps done."""
    total_steps: int
    """Environment steps asked for."""
    episodes: int
    """Episodes done."""
    return_mean: float | None
    """Mean return of the last twenty training episodes."""
    success_rate: float | None
    """Success rate of the last twenty training episodes, whose actions are partly random."""
    tau: float
    """Temperature."""
    particle_spread: float
    """Standard deviation over the particles in action space, averaged over states and dimensions."""
    steps_per_s: float
    """Environment steps per second, including the time of updates."""
    seconds_left: float | None
    """Time to `total_steps` at this pace; None if this call has done no step yet."""
    evaluation: Evaluation | None
    """The evaluation that was made at this step; None if there was none."""


class OnProgress(Protocol):
    """Called about twice a second, after each evaluation, and once at the end."""

    def __call__(self, progress: TrainProgress, /) -> None:
        """Receive `progress`."""


class ProgressBar:
    """A progress bar on the terminal; use it as a context, and as the `on_progress` of `train`.

    It appears with the first call, so that a training that fails to start prints its error line only. Above
    it stands a line for each evaluation. Where the output is no terminal, a line at the start and one at the
    end replace the bar.
    """

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            BarColumn(bar_width=6),
            TextColumn("{task.fields[line]}"),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("training", total=None, line="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def __call__(self, progress: TrainProgress, /) -> None:
        """Move the bar, and print the evaluation if there is one."""
        console = self._progress.console
        if not self._progress.live.is_started:
            self._progress.start()
            if not console.is_terminal:
                console.print(f"training up to step {progress.total_steps:,} ...")
        if (found := progress.evaluation) is not None:
            told = outcome(found.return_mean, found.success_rate)
            console.print(f"evaluation at step {progress.step:,}: {told}")
        self._progress.update(
            self._task, completed=progress.step, total=progress.total_steps, line=progress_line(progress)
        )


def outcome(return_mean: float, success_rate: float | None) -> str:
    """Return and success of an evaluation, as text."""
    success = "not reported" if success_rate is None else format(success_rate, ".0%")
    return f"return {return_mean:.1f}, success {success}"


def progress_line(progress: TrainProgress) -> str:
    """One line of text for `progress`, short enough for 80 columns behind a small bar."""
    parts = [f"{progress.step:,}"]
    if progress.return_mean is not None:
        parts.append(f"return {progress.return_mean:.1f}")
    if progress.success_rate is not None:
        parts.append(f"success {progress.success_rate:.0%}")
    parts += [
        f"τ {progress.tau:.3g}",
        f"spread {progress.particle_spread:.2f}",
        f"{progress.steps_per_s:.0f}/s",
    ]
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return " ".join(parts)
