"""Observations of an environment in the order of terms of an artifact's contract."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from wpg.cli.options import CommandError
from wpg.controllers.experience.environment import env_name
from wpg.export.interface import PolicyInterface

Floats = NDArray[np.float32]


class ContractObservations(gymnasium.ObservationWrapper[Floats, Any, Any]):
    """Makes the policy's observation vector from an environment's entries; a flat observation stays as it is.

    A term with the name of an entry is that entry. A term whose source is the goal is ``desired_goal``. The
    other terms are consecutive parts of the entry ``observation``.

    Raises:
        CommandError: the sizes of the entries do not match the terms.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], interface: PolicyInterface) -> None:
        super().__init__(env)
        space = env.observation_space
        sizes = (
            {key: int(np.prod(part.shape or ())) for key, part in space.spaces.items()}
            if isinstance(space, Dict)
            else {}
        )
        self._parts: list[tuple[str, slice]] = []
        used = dict.fromkeys(sizes, 0)
        for term in interface.observation if sizes else ():
            key = term.name if term.name in sizes else "observation"
            if term.source == "goal":
                key = "desired_goal"
            start = used.get(key, 0)
            used[key] = start + term.size
            self._parts.append((key, slice(start, used[key])))
        wrong = [
            key for key, size in used.items() if size != sizes.get(key) and (size or key == "observation")
        ]
        found = sum(sizes.values()) if sizes else int(np.prod(space.shape or ()))
        if wrong or (not sizes and found != interface.obs_dim):
            expected = ", ".join(f"{term.name} {term.size}" for term in interface.observation)
            has = ", ".join(f"{key} {size}" for key, size in sizes.items()) or found
            raise CommandError(f"observation: the policy sees {expected}; {env_name(env)} has {has}")
        self.observation_space = Box(-np.inf, np.inf, (interface.obs_dim,), np.float32)

    def observation(self, observation: Any) -> Floats:
        """The policy's vector, (obs_dim,)."""
        if not self._parts:
            return np.asarray(observation, np.float32)
        return np.concatenate(
            [np.ravel(observation[key])[span] for key, span in self._parts],
            dtype=np.float32,
            casting="same_kind",
        )
