"""Sets the goals of a run one after the other, and judges whether each was reached."""

import msgspec
import numpy as np

from wpg.export.errors import ContractError
from wpg.export.interface import GoalSpec
from wpg.hardware_bridge.robot import Vector


class GoalResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one goal ended."""

    goal: tuple[float, ...]
    """Where the tool or the object was to be, m."""
    error_m: float
    """Its distance from the goal after the last step."""
    reached: bool
    start_s: float
    """Time of the run at which it was set."""
    end_s: float


class GoalSequence:
    """Draws goals uniformly from the contract's box and judges each at its last step.

    Every call is told the position that is compared with the goal, of the tool or of an object.

    Args:
        spec: box, tolerance and number of steps of a goal.
        count: number of goals; None for no end.
        seed: seed of the draws.
        fixed: (3,) m, a goal to use instead of drawing.

    Raises:
        ContractError: the fixed goal lies outside the box that the policy was trained on.
    """

    def __init__(
        self, spec: GoalSpec, *, count: int | None, seed: int, fixed: tuple[float, ...] | None = None
    ) -> None:
        if fixed is not None and not _inside(fixed, spec):
            raise ContractError(f"goal: expected a point from {spec.low} to {spec.high}, found {fixed}")
        self._spec = spec
        self._count = count
        self._fixed = fixed
        self._generator = np.random.default_rng(seed)
        self._steps = 0
        self._start_s = 0.0
        self.results: list[GoalResult] = []
        self._current: Vector = np.zeros(len(spec.low))

    def _draw(self, place: Vector) -> Vector:
        """Draw a goal that is far enough from ``place`` (3,) m."""
        while True:
            drawn = self._generator.uniform(self._spec.low, self._spec.high)
            # Rounded to float32, as goals are in training.
            goal = np.asarray(drawn if self._fixed is None else self._fixed, np.float32).astype(np.float64)
            if self._fixed is not None or float(np.linalg.norm(goal - place)) >= self._spec.distance_min_m:
                return goal

    @property
    def finished(self) -> bool:
        """Whether all goals have been judged."""
        return self._count is not None and len(self.results) >= self._count

    def begin_step(self, place: Vector, now_s: float) -> Vector:
        """Begin a policy step, with the tool or object at ``place`` (3,) m; returns its goal, (3,) m."""
        if self._steps == 0:
            self._start_s = now_s
            self._current = self._draw(place)
        self._steps += 1
        return self._current

    def judge(self, place: Vector, now_s: float) -> bool:
        """Judge the goal if its steps are over, with the tool or object at ``place`` (3,) m; True if so."""
        if self._steps < self._spec.horizon_steps:
            return False
        error = float(np.linalg.norm(place - self._current))
        result = GoalResult(
            goal=tuple(self._current.tolist()),
            error_m=error,
            reached=error <= self._spec.tolerance_m,
            start_s=self._start_s,
            end_s=now_s,
        )
        self.results.append(result)
        self._steps = 0
        return True


def _inside(goal: tuple[float, ...], spec: GoalSpec) -> bool:
    return len(goal) == len(spec.low) and all(
        low <= value <= high for value, low, high in zip(goal, spec.low, spec.high, strict=True)
    )
