"""A policy and an environment that it acts in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.spaces import Box

from wpg.cli.artifacts import artifact_act, export_run
from wpg.cli.observations import ContractObservations
from wpg.cli.options import CommandError, Select
from wpg.controllers import load_run
from wpg.controllers.environment import inspect_env, make_env
from wpg.controllers.evaluation import Act
from wpg.export.artifact import Artifact, ArtifactSampler
from wpg.export.interface import PolicyInterface
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.control.checks import check_robot
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.goal_env import GoalEnv
from wpg.sim_envs.task_interface import task_kwargs

Env = gymnasium.Env[Any, Any]
OURS = "wpg/"


class FreshEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """At the beginning of an episode the policy forgets what it did in the one before."""

    def __init__(self, env: Env, sampler: ArtifactSampler) -> None:
        super().__init__(env)
        self._sampler = sampler

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode, of which the policy has done nothing yet."""
        self._sampler.reset()
        return super().reset(seed=seed, options=options)


@contextmanager
def acting(
    policy: Path, env_id: str | None, select: Select, *, seed: int, **kwargs: Any
) -> Iterator[tuple[Act, Env]]:
    """A run folder or an artifact, in ``env_id`` or the environment it was trained in.

    What acts is the artifact, of a run folder the one that is exported from it as it is now.

    Args:
        policy: run folder or .onnx file.
        env_id: Gymnasium id; None takes the policy's own.
        select: how it chooses among its particles.
        seed: of its noise.
        kwargs: for the environment, before what the policy says: a run folder knows what its environment
            was given, of which another one gets robot and effects, an artifact its robot.

    Yields:
        The controller, from an observation as ``flatten_obs`` gives it to an action, and the environment.

    Raises:
        CommandError: the policy does not fit the environment.
        ContractError: it was trained for another robot.
    """
    known: dict[str, Any] = {}
    if not policy.exists():
        raise CommandError(
            f"{policy}: no such file or folder; expected a run folder or an exported .onnx file"
        )
    if policy.is_dir():
        known = load_run(policy).config.env_kwargs
        with tempfile.TemporaryDirectory() as folder:
            artifact = load_artifact(export_run(policy, Path(folder) / f"{policy.name}.onnx"))
    else:
        artifact = load_artifact(policy)
    interface, own_id = artifact.contract.interface, artifact.contract.provenance.env_id
    if env_id not in (None, own_id):
        ours = env_id.startswith(OURS) and own_id.startswith(OURS)
        kept = ("robot", "effects") if ours else ("robot",)
        known = {name: value for name, value in known.items() if name in kept}
    env_id = env_id or own_id
    env = _open(policy, env_id, interface, known | kwargs)
    try:
        yield _fitted(policy, artifact, env, select, seed)
    finally:
        env.close()


def _open(policy: Path, env_id: str, interface: PolicyInterface, kwargs: dict[str, Any]) -> Env:
    """The environment with the policy's robot, unless another one is asked for, which is then refused."""
    trained_for = interface.robot
    if trained_for is None or not env_id.startswith(OURS):
        return make_env(env_id, **kwargs)
    if "robot" not in kwargs:
        try:
            load_description(trained_for.name)
        except DescriptionError as error:
            raise CommandError(
                f"{policy} was trained for {trained_for.name}, which is not shipped with wpg: "
                "give its description by --robot"
            ) from error
    env = make_env(env_id, **{"robot": trained_for.name, **task_kwargs(interface), **kwargs})
    try:
        if isinstance(env.unwrapped, GoalEnv):
            check_robot(interface, env.unwrapped.robot.description)
    except BaseException:
        env.close()
        raise
    return env


def _fitted(policy: Path, artifact: Artifact, env: Env, select: Select, seed: int) -> tuple[Act, Env]:
    env = ContractObservations(env, artifact.contract.interface)
    spec = inspect_env(env)
    size = artifact.contract.interface.action.size
    if spec.action_dim != size:
        raise CommandError(f"{policy} gives {size} values, {spec.env_id} takes {spec.action_dim}")
    assert isinstance(env.action_space, Box)
    sampler = artifact.sampler()
    act = artifact_act(artifact, env.action_space, select, seed=seed, sampler=sampler)
    return act, FreshEpisodes(env, sampler)
