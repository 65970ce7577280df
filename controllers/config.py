"""Settings of a training run."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import torch
from msgspec import Meta

from wpg.controllers.algorithm.settings import LearnerSettings
from wpg.controllers.cpu import cpu_features
from wpg.controllers.errors import ConfigError
from wpg.controllers.experience.environment import EnvSpec
from wpg.controllers.files import replacing
from wpg.controllers.forked_process import can_fork
from wpg.controllers.validation import validate_fields

Precision = Literal["auto", "float32", "bfloat16"]
Select = Literal["best", "mean", "sample"]

BRIEF_STEPS = 50_000
"""A run of fewer steps than this is brief."""
LONG_STEPS = 400_000
"""A run of at least this many steps has the time for wider networks."""
EVAL_PERIOD_MIN = 1000
"""Default evaluations are at least this many steps apart: in between, training takes about as long."""

Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Discount = Annotated[float, Meta(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    `resolve` replaces None by values that fit the environment and `steps`; the run folder's `config.yaml`
    holds the result. A flat environment, one without goals, gets CrossQ's step size, update rate and policy
    delay. A goal environment is assumed to step much faster than an update takes: new transitions are cheap,
    and each is relabelled many times. Among goal environments, brief runs (fewer than 50,000 steps) are
    assumed to move the arm only, and use a large step size. Longer runs are assumed to move objects, and
    explore by random actions that are held for several steps.
    """

    env: str
    """Gymnasium id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment, in values that YAML can hold. The environment gets them as they
    are read again from YAML: a tuple or a set becomes a list, and a member of an enumeration its value."""
    steps: Count = 100_000
    """Total number of environment steps, summed over all environments."""
    seed: Seed = 0
    """Seed of all random numbers of the run."""
    num_envs: Count | None = None
    """Number of environments stepped side by side; None takes 8 with goals, 1 without."""
    num_particles: Count = 16
    """Particles of the policy, K."""
    hidden: Count | None = None
    """Width of the two hidden layers of policy and critics; None takes 256, or 128 with goals and fewer than
    400,000 steps."""
    batch_size: Count | None = None
    """Transitions of one update; None takes 256 with goals, 128 without."""
    learning_rate: Positive | None = None
    """Adam's step size, for policy, critics and temperature; None takes 0.001, 0.003 in brief goal runs."""
    gamma: Discount | None = None
    """Discount; None takes 0.99, with goals 1 − 2.5 / horizon between 0.9 and 0.99."""
    final_learning_rate_share: Share | None = None
    """Share of `learning_rate` at the end of its linear decay; None takes 0.05 with goals, 1 without."""
    decay_steps: Count | None = None
    """Environment steps over which `learning_rate` decays; None takes `steps`."""
    updates_per_step: Positive | None = None
    """Critic updates per environment step; None takes 0.4 with goals (0.2 in brief runs), 1 without."""
    policy_delay: Count | None = None
    """Critic updates per update of actor and temperature; None takes 2 with goals, 3 without."""
    initial_tau: Positive = 0.1
    """Temperature at the start. With 1, and a `temperature_pace` of 3, the policy keeps several ways to do a
    task. At a low initial temperature it abandons all but one before the critic has learned their values."""
    temperature_pace: Positive = 1.0
    """Step size of log τ as a multiple of `learning_rate`. 3 helps if the entropy stays far above its
    target for a long time, as on Ant-v5."""
    target_entropy: float | None = None
    """Target of the policy's entropy in nat, which the temperature is adapted to; None takes −2 per action
    dimension with goals, −1 without."""
    learning_starts: CountOrZero | None = None
    """Steps with uniformly random actions before learning starts; None takes 5,000, with goals 20 episodes or
    a thirtieth of `steps` if that is more, but a quarter of `steps` at most."""
    random_share: Share | None = None
    """Share of random actions among later steps; None takes 0.2 with goals, 0 without and in brief runs."""
    random_hold: Count | None = None
    """Largest number of steps that a random action is held; None takes 10 with goals, 1 without and in brief
    runs."""
    norm_warmup: CountOrZero = 5000
    """Critic updates before the normalisations are corrected towards their running statistics."""
    replay_capacity: Count = 1_000_000
    """Largest number of transitions in the replay memory."""
    demonstrations: str | None = None
    """File of recorded episodes to learn from as well (see `wpg.controllers.experience.demonstrations`)."""
    demonstration_share: Share = 0.25
    """Expected share of each batch drawn from the demonstrations. The remaining rows are drawn from all
    transitions, so they may include demonstrations as well."""
    recent_share: Share | None = None
    """Share of each batch drawn from the last 2,500 steps; None takes 0 with goals, 0.5 without. With goals,
    half of the batch is then replaced by draws from episodes in which the achieved goal changed."""
    hindsight_ratio: Share = 0.8
    """Share of each batch whose goals are replaced by goals that were reached later in the episode; goal
    environments only."""
    log_period: Count = 250
    """Environment steps between rows of metrics.csv."""
    eval_period: CountOrZero | None = None
    """Environment steps between evaluations, 0 for none; None takes a tenth of `steps`, with fewer than
    10,000 steps a larger share, at least 1,000 steps, or all of them if there are fewer."""
    eval_episodes: Count = 20
    """Episodes per evaluation; every evaluation has new episodes."""
    select: Select = "best"
    """How evaluations choose an action: the particle that the critic values most, the mean of the particles,
    or a sample. The first two omit the noise around the particles; the exported file includes it, unless it
    is exported with a noise scale of 0."""
    checkpoint_period: Count | None = None
    """Environment steps between checkpoints; None takes a tenth of `steps`. A checkpoint that is due waits
    until an episode ends, if the environment has a time limit."""
    stop_at_success: Share | None = None
    """Stop when the success rate of `stop_evaluations` evaluations in a row is at least this."""
    stop_evaluations: Count = 2
    """Number of evaluations in a row that `stop_at_success` requires."""
    max_seconds: Positive | None = None
    """Stop after this many seconds in this process; a resumed run starts to count anew."""
    device: str = "cpu"
    """Torch device of the update."""
    precision: Precision = "auto"
    """Precision of the hidden layers' matrix products; auto takes bfloat16 if the CPU supports it."""
    compile: bool = False
    """Compile the update with `torch.compile`. This takes a minute or two at the start and makes updates
    faster afterwards, so it suits long trainings and GPUs. On a CPU it needs a C++ compiler."""
    threads: Count = 1
    """Torch threads of the update. With small networks more threads gain little, and lose much on a busy
    machine."""
    overlap: bool | None = None
    """Whether separate processes step the environments and update the policy during the critics' updates;
    the results are the same either way. None uses them if two cores are available: for the policy if it
    is trained on a CPU with one thread, for the environments if they have goals and are made by their id.
    Linux only, and not in a daemonic process such as a worker of `multiprocessing.Pool`."""

    def __post_init__(self) -> None:
        """Convert every value to its plain type and check it; raises a ConfigError that names the field.

        A new run is also refused if it could not learn, or could not stop as it should. A stored run may have
        such settings, for example after `resume` with fewer steps, and can still be read.
        """
        validate_fields(self)
        try:
            plain = msgspec.to_builtins(self.env_kwargs, builtin_types=(bytes, bytearray, memoryview))
            json.dumps(plain)  # refuses bytes, which YAML would give back as text
            stored = msgspec.yaml.decode(msgspec.yaml.encode(self.env_kwargs))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"env_kwargs must be plain values: {error}") from error
        object.__setattr__(self, "env_kwargs", stored)
        if isinstance(self, ResolvedConfig):
            return
        if self.stop_at_success is not None and self.eval_period == 0:
            raise ConfigError("stop_at_success needs evaluations, and a period of 0 makes none")
        if self.learning_starts is not None and self.learning_starts >= self.steps:
            raise ConfigError(
                f"learning_starts must be less than steps, since learning starts after them; "
                f"{self.learning_starts:,} is not less than {self.steps:,}"
            )

    def check_machine(self) -> None:
        """Check that this machine can train with these settings; loading a trained run needs no such check.

        Raises:
            ConfigError: the device, the C++ compiler or the processes that the settings need are missing.
        """
        if self.overlap and not can_fork():
            raise ConfigError(
                "overlap needs processes that are forked, as on Linux outside of daemonic processes, such as "
                "the workers of multiprocessing.Pool; set overlap=False, or give --one-process"
            )
        try:
            torch.zeros(1, device=self.device).item()  # the meta device makes tensors, and has no numbers
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
            reason = str(error).splitlines()[0]
            raise ConfigError(f"device {self.device!r} cannot be used: {reason}") from error
        compilers = os.environ.get("CXX", "g++"), "g++", "clang++"
        if self.compile and self.device == "cpu" and not any(map(shutil.which, compilers)):
            raise ConfigError("compile needs a C++ compiler, such as g++, and found none; leave it out here")

    def resolve(self, spec: EnvSpec) -> "ResolvedConfig":
        """Replace None by values that follow from the environment's kind and horizon and from `steps`."""
        goals = spec.goal_dim > 0
        brief = self.steps < BRIEF_STEPS
        objects = goals and not brief
        evaluations = min(max(self.steps // EVAL_PERIOD_MIN, 1), 10)
        rules: dict[str, Any] = {
            "num_envs": 8 if goals else 1,
            "learning_rate": 3e-3 if goals and brief else 1e-3,
            "final_learning_rate_share": 0.05 if goals else 1.0,
            "hidden": 128 if goals and self.steps < LONG_STEPS else 256,
            "batch_size": 256 if goals else 128,
            "updates_per_step": (0.2 if brief else 0.4) if goals else 1.0,
            "policy_delay": 2 if goals else 3,
            "gamma": default_gamma(spec),
            "target_entropy": -(2.0 if goals else 1.0) * spec.action_dim,
            "random_share": 0.2 if objects else 0.0,
            "random_hold": 10 if objects else 1,
            "recent_share": 0.0 if goals else 0.5,
            "learning_starts": default_learning_starts(spec, self.steps),
            "eval_period": self.steps // evaluations,
            "checkpoint_period": max(self.steps // 10, 1),
        }
        filled = {name: value for name, value in rules.items() if getattr(self, name) is None}
        return ResolvedConfig(**{**asdict(self), **filled})

    def low_precision(self) -> bool:
        """Whether the hidden layers' products use bfloat16."""
        if self.precision == "auto":
            return self.device == "cpu" and bool(cpu_features().get("avx512_bf16"))
        return self.precision == "bfloat16"

    def save(self, path: str | Path) -> None:
        """Write the settings as YAML; if that fails, a previous file stays as it is.

        Raises:
            OSError: the disk is full, or not writable.
        """
        content = msgspec.yaml.encode(asdict(self))
        with replacing(Path(path)) as partial:
            partial.write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ConfigError: the file is missing or not YAML, or it has an unknown field or a wrong type.
        """
        try:
            values: dict[str, Any] = msgspec.yaml.decode(Path(path).read_bytes(), type=dict[str, Any])
            unknown = set(values) - {one.name for one in fields(cls)}
            if unknown:
                raise ConfigError(f"{path}: unknown settings {', '.join(sorted(unknown))}")
            return msgspec.convert(values, cls, strict=False)  # YAML reads 1e-3 as a string
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"cannot read the settings in {path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(TrainConfig):
    """A `TrainConfig` in which no setting is None that `resolve` can determine."""

    num_envs: Count
    hidden: Count
    batch_size: Count
    learning_rate: Positive
    final_learning_rate_share: Share
    updates_per_step: Positive
    policy_delay: Count
    gamma: Discount
    target_entropy: float
    learning_starts: CountOrZero
    random_share: Share
    random_hold: Count
    recent_share: Share
    eval_period: CountOrZero
    checkpoint_period: Count

    def __post_init__(self) -> None:
        """Also check that every value is set, and that the replay can hold a step of every environment.

        A settings file may omit those that have a default in TrainConfig.
        """
        missing = [name for name in ResolvedConfig.__annotations__ if getattr(self, name) is None]
        if missing:
            raise ConfigError(f"expected a value of {', '.join(missing)}, found none")
        super().__post_init__()
        rows, share = (self.num_envs, "") if self.demonstrations is None else (2 * self.num_envs, "twice ")
        if self.replay_capacity < rows:  # demonstrations may fill half of it for good
            raise ConfigError(
                f"replay_capacity must be at least {rows}, {share}num_envs, it is {self.replay_capacity}"
            )


def learner_settings(config: ResolvedConfig) -> LearnerSettings:
    """The settings of a run's updates."""
    names = {one.name for one in fields(LearnerSettings)} - {"low_precision"}
    values = {name: getattr(config, name) for name in names}
    return LearnerSettings(**values, low_precision=config.low_precision())


def default_gamma(spec: EnvSpec) -> float:
    """Default discount.

    0.99 without goals. With goals `1 − 2.5 / horizon`, limited to [0.9, 0.99]; for 50 steps this is 0.95. A
    smaller discount would make the goal worthless at the first step, and a larger one would make values
    depend on rewards far beyond the last step.
    """
    if not spec.goal_dim or spec.horizon is None:
        return 0.99
    return min(max(1 - 2.5 / spec.horizon, 0.9), 0.99)


def default_learning_starts(spec: EnvSpec, steps: int) -> int:
    """Default number of random steps, at most a quarter of `steps`.

    With goals it is twenty episodes, or a thirtieth of `steps` if that is more; without goals 5,000 steps.
    """
    wanted = max(20 * (spec.horizon or 50), steps // 30) if spec.goal_dim else 5000
    return min(wanted, steps // 4)
