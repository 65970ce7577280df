"""Settings of an update."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Settings of an update; `TrainConfig` documents those of the same name."""

    gamma: float
    learning_rate: float
    policy_delay: int
    initial_tau: float
    temperature_pace: float = 1.0
    target_entropy: float
    norm_warmup: int
    low_precision: bool = False
    """Whether the hidden layers' products use bfloat16."""
    compile: bool = False
