"""A policy and the environment that it acts in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from wpg.cli.observations import ContractObservations
from wpg.cli.options import CommandError, ParticleChoice, require_policy
from wpg.controllers import load_run
from wpg.controllers.experience.environment import inspect_env, make_env
from wpg.controllers.experience.evaluation import Act
from wpg.export import export_run
from wpg.export.artifact import Artifact, ArtifactSampler
from wpg.export.interface import PolicyInterface
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.control.checks import check_robot
from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.errors import DescriptionError
from wpg.sim_envs.registration import task_of
from wpg.sim_envs.tasks.goal_env import GoalEnv
from wpg.sim_envs.tasks.interface import task_kwargs

Env = gymnasium.Env[Any, Any]


class FreshEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Resets the policy's sampler with the environment: an episode knows nothing of the one before."""

    def __init__(self, env: Env, sampler: ArtifactSampler) -> None:
        super().__init__(env)
        self._sampler = sampler

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        self._sampler.reset()
        return super().reset(seed=seed, options=options)


@contextmanager
def acting(
    policy: Path, env_id: str | None, select: ParticleChoice | None, *, seed: int, **kwargs: Any
) -> Iterator[tuple[Act, Env, str]]:
    """Open a policy together with ``env_id`` or the environment that it was trained in.

    A run folder is exported to a temporary file first, so that an artifact acts in either case.

    Args:
        policy: run folder or .onnx file.
        env_id: Gymnasium id; None takes the policy's own.
        select: how it chooses among its particles; None: as its file does.
        seed: of its noise.
        kwargs: for the environment; they override the policy's own. A run folder stores the arguments of its
            environment; of these another environment gets only the robot, and the effects if both are tasks
            of wpg. From an artifact a task of wpg gets the robot, the control and the target history.

    Yields:
        The controller, from an observation as ``flatten_obs`` gives it to an action; the environment; and the
        name of the rule that chooses.

    Raises:
        CommandError: the policy does not fit the environment, or cannot choose like this.
        ContractError: it was trained for another robot.
    """
    known: dict[str, Any] = {}
    require_policy(policy)
    if policy.is_dir():
        known = load_run(policy).config.env_kwargs
        with tempfile.TemporaryDirectory() as folder:
            artifact = load_artifact(export_run(policy, Path(folder) / f"{policy.name}.onnx"))
    else:
        artifact = load_artifact(policy)
    interface, own_id = artifact.contract.interface, artifact.contract.provenance.env_id
    if env_id not in (None, own_id):
        kept = ("robot", "effects") if task_of(env_id) and task_of(own_id) else ("robot",)
        known = {name: value for name, value in known.items() if name in kept}
    env_id = env_id or own_id
    kwargs = known | kwargs
    is_task = task_of(env_id) is not None and interface.robot is not None
    env = open_task(policy, env_id, interface, **kwargs) if is_task else make_env(env_id, **kwargs)
    try:
        yield *_fitted(policy, artifact, env, select, seed), select or artifact.contract.sampler.choice
    finally:
        env.close()


def artifact_act(
    artifact: Artifact,
    action_space: Box,
    select: ParticleChoice | None,
    *,
    seed: int,
    sampler: ArtifactSampler | None = None,
) -> Act:
    """Controller for an environment: the artifact's action, in the environment's units.

    Args:
        artifact: the policy.
        action_space: of the environment.
        select: how it chooses among its particles; None: as its file does.
        seed: of its noise.
        sampler: one of the artifact's that the caller resets between episodes; None takes a new one.

    Raises:
        CommandError: the best particle is asked of a policy without critics.
    """
    spec, values = artifact.contract.sampler, artifact.contract.golden.values
    if select == "best" and not (spec.choice.startswith("best") or np.any(values)):
        raise CommandError(
            f"--select best: {artifact.path} has no critics to value its particles; it acts by {spec.choice}"
        )
    sampler = sampler or artifact.sampler()
    generator = np.random.default_rng(seed)
    term = artifact.contract.interface.action

    def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = generator.standard_normal(sampler.noise_shape, dtype=np.float32)
        sample = sampler.draw(obs, noise)
        match select:
            case None:
                action = sample.action
            case "best":
                action = sample.particles[sample.values.argmax()]
            case "mean":
                action = sample.particles.mean(0)
            case "sample":
                action = sample.particles[generator.integers(len(sample.particles))]
        if term.mode != "environment":
            action = term.normalise(action)
        return np.clip(action, action_space.low, action_space.high)

    return act


def open_task(policy: Path, env_id: str, interface: PolicyInterface, **kwargs: Any) -> Env:
    """Open a task of wpg with a policy's robot, control and target history.

    Args:
        policy: file or run folder, for errors.
        env_id: id of the task.
        interface: of the policy; it has a robot.
        kwargs: for the environment; they override the policy's own.

    Raises:
        CommandError: the policy's robot is not shipped with wpg, and ``kwargs`` has none.
        ContractError: the robot in ``kwargs`` is not the policy's.
    """
    assert interface.robot is not None
    name = interface.robot.name
    if "robot" not in kwargs:
        try:
            load_description(name)
        except DescriptionError as error:
            raise CommandError(
                f"{policy} was trained for {name}, which is not shipped with wpg: "
                "give its description by --robot"
            ) from error
    env = make_env(env_id, **{"robot": name, **task_kwargs(interface), **kwargs})
    try:
        assert isinstance(env.unwrapped, GoalEnv)
        check_robot(interface, env.unwrapped.robot.description)
    except BaseException:
        env.close()
        raise
    return env


def _fitted(
    policy: Path, artifact: Artifact, env: Env, select: ParticleChoice | None, seed: int
) -> tuple[Act, Env]:
    """The controller, and the environment with the policy's observations and resets."""
    env = ContractObservations(env, artifact.contract.interface)
    spec = inspect_env(env)
    size = artifact.contract.interface.action.size
    if spec.action_dim != size:
        raise CommandError(f"{policy} gives {size} values, {spec.env_id} takes {spec.action_dim}")
    assert isinstance(env.action_space, Box)
    sampler = artifact.sampler()
    act = artifact_act(artifact, env.action_space, select, seed=seed, sampler=sampler)
    return act, FreshEpisodes(env, sampler)
