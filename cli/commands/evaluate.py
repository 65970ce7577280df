"""``wpg evaluate``: return and success of a run folder or an artifact, with 95 % intervals."""

from pathlib import Path
from typing import Annotated

import msgspec
import tyro

from wpg.cli.options import (
    ActuatorsFile,
    JsonFile,
    ParticleChoice,
    RobotOption,
    env_kwargs,
    naming,
    prepare_outputs,
    require_at_least,
    require_policy,
    write_json,
)
from wpg.cli.terminal import number_of, terminal, working


class EvaluationResult(msgspec.Struct, kw_only=True):
    """Keys of ``wpg evaluate --json``."""

    env: str
    episodes: int
    return_mean: float
    return_ci95: tuple[float, float]
    success_rate: float | None
    success_ci95: tuple[float, float] | None
    select: str
    """The rule that chose the actions: that of ``--select``, or the file's own."""


def evaluate(
    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")],
    *,
    env: str | None = None,
    episodes: int = 100,
    select: ParticleChoice | None = None,
    robot: RobotOption = None,
    actuators: ActuatorsFile = None,
    seed: int = 0,
    json: JsonFile = None,
) -> None:
    """Measure a policy in simulation.

    The exported policy is evaluated; a run folder is exported first. The environment uses the robot that the
    policy was trained for. A run folder also stores its actuators; a file does not.

    Args:
        policy: A run folder or an exported .onnx file.
        env: Gymnasium id; by default the one the policy was trained in.
        episodes: Episodes to run.
        select: The critic's best particle, the particles' mean, or a random one; by default the file's rule.
        seed: Seed of resets and noise.
    """
    prepare_outputs(json, inputs=(policy, robot, actuators))
    result = evaluate_policy(
        policy, env=env, episodes=episodes, select=select, seed=seed, robot=robot, actuators=actuators
    )
    console = terminal()
    console.print(f"{result.env}: {number_of(result.episodes, 'episode')}, acting by {result.select}")
    low, high = result.return_ci95
    interval = f"   95 % [{low:.2f}, {high:.2f}]" if result.episodes > 1 else ""
    console.print(f"  return  {result.return_mean:9.2f}{interval}")
    if result.success_rate is not None and result.success_ci95 is not None:
        low, high = result.success_ci95
        console.print(f"  success {result.success_rate:9.1%}   95 % [{low:.1%}, {high:.1%}]")
    write_json(json, result)


def evaluate_policy(
    policy: Path,
    *,
    env: str | None,
    episodes: int,
    select: ParticleChoice | None = None,
    seed: int = 0,
    robot: str | None = None,
    actuators: Path | None = None,
) -> EvaluationResult:
    """Evaluate a run folder or an artifact in the environment it was trained in, or in ``env``."""
    require_at_least(1, episodes=episodes)
    require_at_least(0, seed=seed)
    kwargs = env_kwargs(robot=robot, actuators=actuators)
    require_policy(policy)
    # Not part of the bare bridge, and they take seconds: after the checks.
    from wpg.cli.acting import acting  # noqa: PLC0415
    from wpg.controllers import evaluate as evaluate_act  # noqa: PLC0415

    with (
        naming(actuators),
        acting(policy, env, select, seed=seed, **kwargs) as (act, opened, rule),
        working(f"running {number_of(episodes, 'episode')} ..."),
    ):
        found = evaluate_act(act, opened, episodes, seed=seed)
    return msgspec.convert({**vars(found), "select": rule}, EvaluationResult)
