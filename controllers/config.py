"""Settings of a training run."""

import os
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import torch
from msgspec import Meta

from wpg.controllers.cpu import cpu_features
from wpg.controllers.environment import EnvSpec
from wpg.controllers.errors import ConfigError
from wpg.controllers.files import replacing
from wpg.controllers.forked_process import can_fork
from wpg.controllers.validation import validate_fields

Precision = Literal["auto", "float32", "bfloat16"]
Select = Literal["best", "mean", "sample"]

BRIEF_STEPS = 50_000
"""A run of fewer steps is brief."""
LONG_STEPS = 400_000
"""A run of at least so many steps is long: it has the time for wider networks."""

Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Discount = Annotated[float, Meta(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    `resolve` fills in what is None from the environment and from `steps`; the run folder's `config.yaml`
    holds the result. Flat environments get CrossQ's step size, update rate and policy delay. Goal
    environments are assumed to step far faster than an update takes: fresh transitions are cheap, and
    relabelled many times over. With goals, brief runs, of less than 50,000 steps, are assumed to move the
    arm alone and learn by large steps; longer ones to move objects, which is explored by random actions
    that are held for several steps.
    """

    env: str
    """Gymnasium id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment, in values that YAML can hold."""
    steps: Count = 100_000
    """Environment steps in all, over all environments."""
    seed: Seed = 0
    """Seed of everything random in the run."""
    num_envs: Count | None = None
    """Environments stepped side by side; None takes 8 of a goal environment, 1 of a flat one."""
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
    final_learning_rate: Share | None = None
    """Share of `learning_rate` left by a linear fall; None takes 0.05 with goals, 1 without."""
    decay_steps: Count | None = None
    """Environment steps over which `learning_rate` falls; None takes `steps`."""
    updates_per_step: Positive | None = None
    """Critic updates an environment step; None takes 0.4 with goals, 0.2 if brief, 1 without goals."""
    actor_period: Count | None = None
    """Critic updates to one update of actor and temperature; None takes 2 with goals, 3 without."""
    initial_tau: Positive = 0.1
    """Temperature at the start. From 1, with a `temperature_pace` of 3, the policy keeps several ways to do a
    task that it gives up from a cold start, before the critic knows them."""
    temperature_pace: Positive = 1.0
    """Step size of log τ as a multiple of `learning_rate`. 3 helps where the entropy stays far above its
    target for long, as on Ant-v5."""
    target_entropy: float | None = None
    """Entropy in nat that the temperature steers to; None takes −2 an action with goals, −1 without."""
    random_steps: CountOrZero | None = None
    """Uniformly random steps before learning starts; None takes 5,000, with goals 20 episodes or a thirtieth
    of `steps` if that is more, but a quarter of `steps` at most."""
    random_share: Share | None = None
    """Share of later steps that are random, too; None takes 0.2 with goals, 0 in brief runs and without."""
    random_hold: Count | None = None
    """Most steps that a random action is held; None takes 10 with goals, 1 in brief runs and without."""
    norm_warmup: CountOrZero = 5000
    """Critic updates before batch normalisation is corrected towards the running statistics."""
    replay_capacity: Count = 1_000_000
    """Transitions kept."""
    demonstrations: str | None = None
    """File of episodes to learn from besides (see `wpg.controllers.demonstrations`)."""
    demonstration_share: Share = 0.25
    """Share of a batch that comes from the demonstrations, at least: the other draws meet them, too."""
    recent_share: Share | None = None
    """Share of a batch from the last 2,500 steps; None takes 0 with goals, 0.5 without. With goals the half
    from eventful episodes is mixed in after it."""
    hindsight_ratio: Share = 0.8
    """Share of a batch whose goals are replaced by goals reached later; goal environments only."""
    log_period: Count = 250
    """Environment steps from one row of metrics.csv to the next."""
    eval_period: CountOrZero | None = None
    """Environment steps from one evaluation to the next; None takes a tenth of `steps`, 0 never evaluates."""
    eval_episodes: Count = 20
    """Episodes of one evaluation; each evaluation has episodes of its own."""
    select: Select = "best"
    """How evaluations choose: the critic's best of the particles, their mean, or a sample. The first two take
    particles without the noise around them; the exported file draws that too, unless it is exported with a
    noise scale of 0."""
    checkpoint_period: Count | None = None
    """Environment steps from one checkpoint to the next; None takes a tenth of `steps`."""
    stop_at_success: Share | None = None
    """Stop when evaluated success is at least this, `stop_evaluations` times in a row."""
    stop_evaluations: Count = 2
    """Evaluations in a row that `stop_at_success` asks for."""
    max_seconds: Positive | None = None
    """Stop after this many seconds of this process's training."""
    device: str = "cpu"
    """Torch device of the update."""
    precision: Precision = "auto"
    """Precision of the hidden layers' products; auto takes bfloat16 where the processor has it."""
    compile: bool = False
    """Compile the update (`torch.compile`): a minute or two at the start, then faster; for long
    trainings and for GPUs. On a CPU it needs a C++ compiler."""
    threads: Count = 1
    """Torch threads of the update; on small networks more gain little, and lose much on a busy machine."""
    overlap: bool | None = None
    """Whether processes of their own step the environments and move the policy during the critics' updates,
    which changes no result. None does so where two cores may be used: the policy with one thread on a CPU,
    the environments where they have goals and are made by their id. Linux only."""

    def __post_init__(self) -> None:
        """Make every value plain and check its range; raises ConfigError that names the field."""
        validate_fields(self)
        try:
            msgspec.to_builtins(self.env_kwargs, str_keys=True)
        except TypeError as error:
            raise ConfigError(f"env_kwargs must be plain values: {error}") from error

    def check_machine(self) -> None:
        """Check that this machine can train so; what was trained elsewhere can be loaded without.

        Raises:
            ConfigError: the device, a C++ compiler or the process that `overlap` asks for is not to be had.
        """
        if self.overlap and not can_fork():
            raise ConfigError("overlap needs processes that are forked, as on Linux; leave it out here")
        try:
            torch.zeros(1, device=self.device).item()  # the meta device makes tensors, and has no numbers
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
            reason = str(error).splitlines()[0]
            raise ConfigError(f"device {self.device!r} cannot be used: {reason}") from error
        compilers = os.environ.get("CXX", "g++"), "g++", "clang++"
        if self.compile and self.device == "cpu" and not any(map(shutil.which, compilers)):
            raise ConfigError("compile needs a C++ compiler, such as g++, and found none; leave it out here")

    def resolve(self, spec: EnvSpec) -> "ResolvedConfig":
        """Fill in what is None, from the environment's kind and horizon and from `steps`."""
        goals = spec.goal_dim > 0
        brief = self.steps < BRIEF_STEPS
        objects = goals and not brief
        tenth = max(self.steps // 10, 1)
        rules: dict[str, Any] = {
            "num_envs": 8 if goals else 1,
            "learning_rate": 3e-3 if goals and brief else 1e-3,
            "final_learning_rate": 0.05 if goals else 1.0,
            "hidden": 128 if goals and self.steps < LONG_STEPS else 256,
            "batch_size": 256 if goals else 128,
            "updates_per_step": (0.2 if brief else 0.4) if goals else 1.0,
            "actor_period": 2 if goals else 3,
            "gamma": default_gamma(spec),
            "target_entropy": -(2.0 if goals else 1.0) * spec.action_dim,
            "random_share": 0.2 if objects else 0.0,
            "random_hold": 10 if objects else 1,
            "recent_share": 0.0 if goals else 0.5,
            "random_steps": default_random_steps(spec, self.steps),
            "eval_period": tenth,
            "checkpoint_period": tenth,
        }
        filled = {name: value for name, value in rules.items() if getattr(self, name) is None}
        return ResolvedConfig(**{**asdict(self), **filled})

    def low_precision(self) -> bool:
        """Whether products of the hidden layers are to be taken in bfloat16."""
        if self.precision == "auto":
            return self.device == "cpu" and bool(cpu_features().get("avx512_bf16"))
        return self.precision == "bfloat16"

    def save(self, path: Path) -> None:
        """Write the settings as YAML, or leave those before them as they are.

        Raises:
            OSError: the disk is full, or not writable.
        """
        content = msgspec.yaml.encode(asdict(self))
        with replacing(path) as partial:
            partial.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ConfigError: the file is missing, is no YAML, or holds a field or a type that is not known.
        """
        try:
            values: dict[str, Any] = msgspec.yaml.decode(path.read_bytes(), type=dict[str, Any])
            unknown = set(values) - {one.name for one in fields(cls)}
            if unknown:
                raise ConfigError(f"{path}: unknown settings {', '.join(sorted(unknown))}")
            return msgspec.convert(values, cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"cannot read the settings in {path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """What an update goes by; `TrainConfig` says what its numbers mean."""

    gamma: float
    learning_rate: float
    actor_period: int
    initial_tau: float
    temperature_pace: float = 1.0
    target_entropy: float
    norm_warmup: int
    low_precision: bool = False
    """Products of the hidden layers in bfloat16."""
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(TrainConfig):
    """Settings of `TrainConfig` with nothing left open that its `resolve` fills in."""

    num_envs: Count
    hidden: Count
    batch_size: Count
    learning_rate: Positive
    final_learning_rate: Share
    updates_per_step: Positive
    actor_period: Count
    gamma: Discount
    target_entropy: float
    random_steps: CountOrZero
    random_share: Share
    random_hold: Count
    recent_share: Share
    eval_period: CountOrZero
    checkpoint_period: Count

    def __post_init__(self) -> None:
        """Check that nothing is open, too, and that the replay holds a step of every environment.

        A file may leave out what has a default in TrainConfig.
        """
        missing = [name for name in ResolvedConfig.__annotations__ if getattr(self, name) is None]
        if missing:
            raise ConfigError(f"expected a value of {', '.join(missing)}, found none")
        super().__post_init__()
        rows, share = (self.num_envs, "") if self.demonstrations is None else (2 * self.num_envs, "twice ")
        if self.replay_capacity < rows:  # half of it may be demonstrations, which stay
            raise ConfigError(
                f"replay_capacity must be at least {rows}, {share}num_envs, it is {self.replay_capacity}"
            )


def learner_settings(config: ResolvedConfig) -> LearnerSettings:
    """The settings of a run's updates."""
    values = {one.name: getattr(config, one.name) for one in fields(LearnerSettings)}
    return LearnerSettings(**values | {"low_precision": config.low_precision()})


def default_gamma(spec: EnvSpec) -> float:
    """Discount where none is set.

    0.99 for a flat environment. For a goal environment `1 − 2.5 / horizon`, kept in [0.9, 0.99]: the
    goal must be worth something from the first step, and values must not reach far past the last one
    (0.95 at 50 steps).
    """
    if not spec.goal_dim or spec.horizon is None:
        return 0.99
    return min(max(1 - 2.5 / spec.horizon, 0.9), 0.99)


def default_random_steps(spec: EnvSpec, steps: int) -> int:
    """Random steps where none are set, a quarter at most.

    Twenty episodes with goals, or a thirtieth of the steps if that is more; 5,000 steps without.
    """
    wanted = max(20 * (spec.horizon or 50), steps // 30) if spec.goal_dim else 5000
    return min(wanted, steps // 4)
