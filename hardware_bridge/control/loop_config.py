"""Configuration of one run."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import msgspec

from wpg.export.errors import ContractError
from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.control.goals import GoalSequence
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.errors import DescriptionError
from wpg.hardware_bridge.robot import StopMode


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What one run is to do."""

    goals: int | None = None
    """Number of goals to try; None for as many as the duration allows."""
    goal: tuple[float, ...] | None = None
    """Goal to try instead of drawing goals, m."""
    duration_s: float | None = None
    """End the run after this time; None for no limit."""
    seed: int = 0
    """Seed of the goals that are drawn."""
    settle_s: float = 0.1
    """Stand still for this long after arming before the policy moves the arm."""
    soft_start_s: float = 0.5
    """After a standstill, grow from ``soft_start_pace`` to full speed over this time."""
    soft_start_pace: float = 0.2
    """Share of the full speed at which the arm starts."""
    final_stop: StopMode = StopMode.HOLD
    """How the arm is left: it keeps standing under HOLD, sinks under DAMP and drops under RELEASE."""
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        if self.goals is not None and self.goals < 1:
            raise ValueError(f"goals: expected at least 1, found {self.goals}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise ValueError(f"duration_s: expected a positive number, found {self.duration_s}")
        if not 0 < self.soft_start_pace <= 1:
            raise ValueError(f"soft_start_pace: expected a number in (0, 1], found {self.soft_start_pace}")


def load_safety(path: str | Path) -> SafetyConfig:
    """Read safety thresholds from a TOML file; thresholds that it does not name keep their defaults.

    Raises:
        DescriptionError: the file cannot be read, or a field is unknown or invalid; names file and field.
    """
    try:
        found = msgspec.toml.decode(Path(path).read_bytes(), type=dict[str, object])
        known = [field.name for field in fields(SafetyConfig)]
        for name in found:
            if name not in known:
                raise DescriptionError(f"{path}: unknown {name!r}: expected some of {', '.join(known)}")
        return msgspec.convert(found, SafetyConfig)
    except OSError as error:
        raise DescriptionError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{path}: {error}") from error


def make_goals(interface: PolicyInterface, config: LoopConfig) -> GoalSequence | None:
    """The goals that a configuration asks for; None for a policy without goals.

    Raises:
        ContractError: the policy was trained without goals; or the goal lies outside the contract's box;
            or no goal can be drawn and none is given.
    """
    if interface.goal is not None:
        if interface.goal.given and config.goal is None:
            raise ContractError(
                "goal: none can be drawn, it is where something stands: give its place (--goal)"
            )
        once = config.goals is None and config.goal is not None and config.duration_s is None
        count = 1 if once else config.goals
        return GoalSequence(interface.goal, count=count, seed=config.seed, fixed=config.goal)
    if config.goals is not None or config.goal is not None:
        raise ContractError("goal: the policy was trained without goals; give a duration instead")
    return None
