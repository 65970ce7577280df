"""A policy and an environment that it acts in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import gymnasium
from gymnasium.spaces import Box

from wpg.cli.artifacts import artifact_act, run_options
from wpg.cli.observations import ContractObservations
from wpg.cli.options import CommandError
from wpg.controllers import load_run
from wpg.controllers.environment import inspect_env, make_env
from wpg.controllers.evaluation import Act
from wpg.export.reader import Artifact, load_artifact

Select = Literal["best", "mean", "sample"]
Env = gymnasium.Env[Any, Any]


@contextmanager
def acting(
    policy: Path, env_id: str | None, select: Select, *, seed: int, **options: Any
) -> Iterator[tuple[Act, Env]]:
    """A run folder or an artefact, in ``env_id`` or the environment it was trained in.

    Args:
        policy: run folder or .onnx file.
        env_id: Gymnasium id; None takes the policy's own.
        select: how it chooses among its particles.
        seed: of its noise.
        options: keyword arguments of the environment, such as ``render_mode``.

    Yields:
        The controller, from an observation as ``flatten_obs`` gives it to an action, and the environment.

    Raises:
        CommandError: the policy does not fit the environment.
    """
    if policy.is_dir():
        run = load_run(policy)
        own = run_options(policy) if env_id is None else {}
        env = make_env(env_id or run.config.env, **own | options)
        try:
            spec = inspect_env(env)
            found, sizes = (spec.obs_dim, spec.action_dim), (run.spec.obs_dim, run.spec.action_dim)
            if found != sizes:
                raise CommandError(
                    f"{policy} sees {sizes[0]} values and gives {sizes[1]}; "
                    f"{spec.env_id} has {found[0]} and takes {found[1]}"
                )
            yield run.act(select, seed=seed), env
        finally:
            env.close()
        return
    artifact = load_artifact(policy)
    env = make_env(env_id or artifact.contract.provenance.env_id, **options)
    try:
        yield _fitted(artifact, env, select, seed)
    finally:
        env.close()


def _fitted(artifact: Artifact, env: Env, select: Select, seed: int) -> tuple[Act, Env]:
    env = ContractObservations(env, artifact.contract.interface)
    spec = inspect_env(env)
    size = artifact.contract.interface.action.size
    if spec.action_dim != size:
        raise CommandError(f"{artifact.path} gives {size} values, {spec.env_id} takes {spec.action_dim}")
    assert isinstance(env.action_space, Box)
    return artifact_act(artifact, env.action_space, select, seed=seed), env
