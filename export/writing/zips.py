"""Zips of Stable-Baselines3 as artifacts, with the interface of the environment they were trained in."""

import hashlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium
import msgspec
import numpy as np
from gymnasium.spaces import Box, Dict

from wpg.controllers.experience.environment import make_env, versioned_id
from wpg.export.contract import Provenance, read_interface
from wpg.export.errors import ContractError
from wpg.export.interface import ObservationTerm, PolicyInterface
from wpg.export.options import ExportOptions
from wpg.export.writing.exportable_policy import exportable_networks
from wpg.export.writing.runs import bare_interface
from wpg.export.writing.stable_baselines import StableBaselinesPolicy, read_stable_baselines
from wpg.export.writing.writer import write_artifact


def export_zip(
    zip_path: str | Path,
    out: str | Path,
    *,
    env_id: str | None = None,
    env_kwargs: Mapping[str, Any] = MappingProxyType({}),
    vec_normalize: str | Path | None = None,
    options: ExportOptions | None = None,
) -> Path:
    """Write a policy of Stable-Baselines3 as an artifact; returns ``out``.

    The policy acts as ``predict(obs, deterministic=True)`` does, unless ``options`` ask for several particles
    or for the choice ``sample``.

    Args:
        zip_path: what the library's ``save`` wrote.
        out: the .onnx file to write.
        env_id: Gymnasium id of the training environment, which gives the interface unless ``options`` name
            a file of it.
        env_kwargs: keyword arguments of that environment.
        vec_normalize: file written by ``VecNormalize.save``, if the policy was trained with it.
        options: None exports the policy as it was trained.

    Raises:
        ContractError: there is no interface, or the environment is not the one that the policy knows.
        ArtifactError: the zip cannot be read or written as an artifact.
        ControllersError: the environment cannot be made.
        OSError: the file cannot be written.
    """
    zip_path, out, options = Path(zip_path), Path(out), options or ExportOptions()
    if env_id is None and options.interface is None:
        raise ContractError(f"{zip_path}: expected an environment or an interface file, found neither")
    sampler = options.sampler
    read = read_stable_baselines(
        zip_path,
        vec_normalize=vec_normalize,
        deterministic=sampler.num_particles in (None, 1) and sampler.choice != "sample",
    )
    if options.interface is not None:
        interface = read_interface(options.interface)
    else:
        assert env_id is not None
        with closing(make_env(env_id, **env_kwargs)) as env:
            env_id = versioned_id(env_id, env)
            interface = _interface(zip_path, read, env, env_id)
    write_artifact(
        out,
        exportable_networks(read.networks, temperature=read.temperature),
        interface=interface,
        provenance=Provenance(
            env_id=env_id or "not stated",
            seed=read.seed,
            env_steps=read.env_steps,
            git_commit=None,
            packages={"stable-baselines3": read.version},
            config_sha256=hashlib.sha256(zip_path.read_bytes()).hexdigest(),
            licence=options.licence,
        ),
        options=sampler,
        sign_key=options.sign_key,
    )
    return out


def _interface(
    zip_path: Path, read: StableBaselinesPolicy, env: gymnasium.Env[object, object], env_id: str
) -> PolicyInterface:
    """What the environment declares, its terms in the order in which the policy sees them."""
    space, box = env.observation_space, env.action_space
    if not isinstance(box, Box) or not _same_ends(box, read):
        trained = f"{read.action_low.tolist()} to {read.action_high.tolist()}"
        raise ContractError(f"{zip_path}: trained on actions from {trained}, but {env_id} takes {box}")
    keys = tuple(space.spaces) if isinstance(space, Dict) else ()
    if set(keys) != set(read.observation_keys):
        trained, has = (", ".join(names) or "no keys" for names in (read.observation_keys, keys))
        raise ContractError(f"{zip_path}: trained on observations with {trained}, but {env_id} has {has}")
    declared = getattr(env.unwrapped, "interface", None)
    if isinstance(declared, PolicyInterface):
        if not isinstance(space, Dict):
            return declared
        terms = _in_order(declared, read.observation_keys, env, env_id)
        return msgspec.structs.replace(declared, observation=terms)
    parts = (
        {key: space[key] for key in read.observation_keys}
        if isinstance(space, Dict)
        else {"observation": space}
    )
    terms = tuple(
        ObservationTerm(name=name, size=int(np.prod(part.shape or (1,))), source="environment")
        for name, part in parts.items()
    )
    return bare_interface(env, terms, read.action_low, read.action_high)


def _same_ends(box: Box, read: StableBaselinesPolicy) -> bool:
    ends = ((box.low, read.action_low), (box.high, read.action_high))
    return all(own.shape == theirs.shape and np.allclose(own, theirs) for own, theirs in ends)


def _in_order(
    declared: PolicyInterface, keys: tuple[str, ...], env: gymnasium.Env[object, object], env_id: str
) -> tuple[ObservationTerm, ...]:
    """Terms in the order of the goal environment's entries.

    What is achieved occurs twice: as the entry ``achieved_goal``, and within the entry ``observation``.
    """
    terms = declared.observation
    goal = [term for term in terms if term.source == "goal"]
    achieved = [term for term in terms if term.name == getattr(env.unwrapped, "achieved", None)]
    if not achieved or not goal:
        raise ContractError(f"{env_id} does not say what is achieved: give --interface FILE")
    parts = {
        "observation": [term for term in terms if term.source != "goal"],
        "achieved_goal": [msgspec.structs.replace(achieved[0], name="achieved_goal")],
        "desired_goal": goal,
    }
    return tuple(term for key in keys for term in parts[key])
