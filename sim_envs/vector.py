"""Many environments shared out over processes, so that all cores are used.

Threads do not pay here: of a step on MuJoCo about half is Python and Ruckig under the interpreter's lock.
"""

import itertools
import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from wpg.sim_envs.errors import SimulationError


class ProcessVectorEnv(VectorEnv[Any, Any, Any]):
    """``num_envs`` copies of an environment in ``num_workers`` processes.

    Each process runs a :class:`~wpg.sim_envs.batch.GoalVectorEnv` of its share; observations, rewards, infos
    and automatic resets are the same as one such with all copies gives.

    Args:
        env_id: of an environment of wpg.
        num_envs: how many.
        num_workers: processes; as many as cores may be used, at most one per environment, unless given.
        autoreset_mode: as Gymnasium has it.
        kwargs: for each environment.

    Raises:
        ValueError: more workers than environments, or none.
    """

    def __init__(
        self,
        env_id: str,
        *,
        num_envs: int,
        num_workers: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        num_workers = num_workers or min(num_envs, len(os.sched_getaffinity(0)))
        if not 1 <= num_workers <= num_envs:
            raise ValueError(f"expected 1 to {num_envs} workers, found {num_workers}")
        self.num_envs = num_envs
        bounds = np.linspace(0, num_envs, num_workers + 1).round().astype(int).tolist()
        self._shares = [slice(*ends) for ends in itertools.pairwise(bounds)]
        self._workers = [_start_worker() for _ in self._shares]
        for share, (_, link) in zip(self._shares, self._workers, strict=True):
            link.send((env_id, share.stop - share.start, autoreset_mode, kwargs))
        try:
            observation, action = self._receive()[0]
        except BaseException:
            self.close()
            raise
        self.single_observation_space: spaces.Dict = observation
        self.single_action_space = action
        self.observation_space = batch_space(observation, num_envs)
        self.action_space = batch_space(action, num_envs)
        self.metadata = {"autoreset_mode": autoreset_mode}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start every episode anew; environment ``i`` gets ``seed + i``."""
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + i for i in self._all]
        for share, (_, link) in zip(self._shares, self._workers, strict=True):
            own = options
            if options and "reset_mask" in options:
                own = options | {"reset_mask": options["reset_mask"][share]}
            link.send(("reset", (seeds[share], own)))
        answers = self._receive()
        return self._observations(answers), self._infos([info for _, info in answers])

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One policy period of every environment.

        Raises:
            ValueError: an environment refused its action.
        """
        for share, (_, link) in zip(self._shares, self._workers, strict=True):
            link.send(("step", actions[share]))
        answers = self._receive()
        rewards, terminated, truncated = (
            np.concatenate([answer[field] for answer in answers]) for field in (1, 2, 3)
        )
        infos = self._infos([answer[4] for answer in answers])
        return self._observations(answers), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """End the processes."""
        for process, link in self._workers:
            link.close()
            process.wait(timeout=10)

    @property
    def _all(self) -> range:
        return range(self.num_envs)

    def _receive(self) -> list[Any]:
        answers = []
        for _, link in self._workers:
            try:
                answers.append(link.recv())
            except (EOFError, ConnectionError) as error:
                raise SimulationError("a process of the vector environment ended by itself") from error
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _observations(self, answers: list[Any]) -> Any:
        keys = self.single_observation_space.spaces
        return {key: np.concatenate([answer[0][key] for answer in answers]) for key in keys}

    def _infos(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        """Join what the shares say; where one does not say it there are zeros, as Gymnasium has it."""
        joined: dict[str, Any] = {}
        for key in dict.fromkeys(key for info in infos for key in info):
            known = next(info[key] for info in infos if key in info)
            if isinstance(known, dict):
                joined[key] = self._infos([info.get(key, {}) for info in infos])
                continue
            rows = [
                info.get(key, np.zeros((share.stop - share.start, *known.shape[1:]), known.dtype))
                for share, info in zip(self._shares, infos, strict=True)
            ]
            joined[key] = np.concatenate(rows)
        return joined


def _start_worker() -> tuple["subprocess.Popen[bytes]", Connection]:
    """A process of its own start: the caller's main module is not run again in it."""
    ours, theirs = socket.socketpair()
    code = f"from wpg.sim_envs.vector import serve; serve({theirs.fileno()})"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()])
    theirs.close()
    return process, Connection(ours.detach())


def serve(descriptor: int) -> None:
    """What a worker does: obey until the other end closes."""
    import wpg.sim_envs  # noqa: F401, PLC0415  registers the environments

    link = Connection(descriptor)
    env_id, count, autoreset_mode, kwargs = link.recv()
    try:
        envs = gymnasium.make_vec(env_id, count, autoreset_mode=autoreset_mode, **kwargs)
    except Exception as error:  # the caller raises it
        link.send(error)
        return
    link.send((envs.single_observation_space, envs.single_action_space))
    while True:
        try:
            request, content = link.recv()
        except (EOFError, ConnectionError):
            break
        try:
            if request == "step":
                answer: Any = envs.step(content)
            elif _asks_for_none(content[1]):
                answer = answer[0], {}
            else:
                answer = envs.reset(seed=content[0], options=content[1])
        except Exception as error:
            answer = error
        link.send(answer)
    envs.close()


def _asks_for_none(options: dict[str, Any] | None) -> bool:
    """Whether a reset is for environments of other workers only, which Gymnasium refuses."""
    return options is not None and "reset_mask" in options and not options["reset_mask"].any()
