"""What one run is to do."""

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
    """How many goals to try; None: as many as the duration allows."""
    goal: tuple[float, ...] | None = None
    """Try this goal, m, instead of drawing goals."""
    duration_s: float | None = None
    """End the run after this long."""
    seed: int = 0
    """Seed of the goals."""
    settle_s: float = 0.1
    """Stand still this long after arming, before the policy moves the arm."""
    soft_start_s: float = 0.5
    """Grow from ``soft_start_pace`` to full speed over this long."""
    soft_start_pace: float = 0.2
    final_stop: StopMode = StopMode.HOLD
    """How the arm is left. It keeps standing under HOLD, sinks under DAMP and drops under RELEASE."""
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        if self.goals is not None and self.goals < 1:
            raise ValueError(f"goals: expected at least 1, found {self.goals}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise ValueError(f"duration_s: expected a positive number, found {self.duration_s}")
        if not 0 < self.soft_start_pace <= 1:
            raise ValueError(f"soft_start_pace: expected a number in (0, 1], found {self.soft_start_pace}")


def load_safety(path: Path) -> SafetyConfig:
    """Read safety thresholds from a TOML file; what it does not name keeps its default.

    Raises:
        DescriptionError: the file cannot be read, or holds something else; names file and field.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=dict[str, object])
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
        ContractError: the policy knows no goals, or not this one, or one that must be given is not.
    """
    if interface.goal is not None:
        if interface.goal.given and config.goal is None:
            raise ContractError(
                "goal: none can be drawn, it is where something stands: give its place (--goal)"
            )
        count = 1 if config.goal is not None and config.duration_s is None else config.goals
        return GoalSequence(interface.goal, count=count, seed=config.seed, fixed=config.goal)
    if config.goals is not None or config.goal is not None:
        raise ContractError("goal: the policy was trained without goals; give a duration instead")
    return None
