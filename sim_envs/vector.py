"""Many environments shared out over processes, so that all cores are used.

Threads do not pay here: of a step on MuJoCo about half is Python and Ruckig under the interpreter's lock.
"""

import itertools
import mmap
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


class Board:
    """Arrays that caller and workers share: what every step needs goes past pickle and pipes.

    Args:
        descriptor: file descriptor of the memory; it is closed here.
        num_envs: rows.
        action: action space of one environment.
        observation: observation space of one environment.

    Attributes:
        actions: (num_envs, action_dim), as float64, which holds every float32.
        observations: (num_envs, size) by name.
        rewards: (num_envs,).
        flags: (3, num_envs), terminated, truncated, successful.
    """

    def __init__(self, descriptor: int, num_envs: int, action: spaces.Box, observation: spaces.Dict) -> None:
        shapes = {name: space.shape or () for name, space in observation.items()}
        fields = [
            ("actions", np.float64, action.shape),
            ("rewards", np.float64, ()),
            ("flags", np.bool_, (3,)),
        ]
        fields += [(name, np.float32, shape) for name, shape in shapes.items()]
        row = np.dtype([(name, kind, shape) for name, kind, shape in fields], align=True)
        os.ftruncate(descriptor, num_envs * row.itemsize)
        rows = np.ndarray(num_envs, row, mmap.mmap(descriptor, num_envs * row.itemsize))
        os.close(descriptor)
        self.actions: NDArray[np.float64] = rows["actions"]
        self.rewards: NDArray[np.float64] = rows["rewards"]
        self.flags: NDArray[np.bool_] = rows["flags"].T
        self.observations: dict[str, NDArray[np.float32]] = {name: rows[name] for name in shapes}

    def show(self, share: slice, obs: dict[str, NDArray[np.float32]]) -> None:
        """Observations of a share."""
        for name, values in obs.items():
            self.observations[name][share] = values


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
        memory = os.memfd_create("wpg")
        self._workers = [_start_worker(memory) for _ in self._shares]
        for share, (_, link) in zip(self._shares, self._workers, strict=True):
            link.send((env_id, num_envs, share, autoreset_mode, kwargs))
        try:
            observation, action = self._receive()[0]
        except BaseException:
            os.close(memory)
            self.close()
            raise
        self._board = Board(memory, num_envs, action, observation)
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
        infos = self._infos(self._receive())
        return self._observations(), infos

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One policy period of every environment.

        Raises:
            ValueError: an environment refused its action.
        """
        board, actions = self._board, np.asarray(actions)
        if actions.shape != board.actions.shape:
            raise ValueError(f"expected actions of shape {board.actions.shape}, found {actions.shape}")
        board.actions[:] = actions
        for _, link in self._workers:
            link.send(("step", None))
        infos = self._infos(self._receive())
        terminated, truncated, successful = board.flags.copy()
        infos |= {"is_success": successful, "_is_success": np.ones(self.num_envs, np.bool_)}
        return self._observations(), board.rewards.copy(), terminated, truncated, infos

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

    def _observations(self) -> dict[str, NDArray[np.float32]]:
        return {name: values.copy() for name, values in self._board.observations.items()}

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


def _start_worker(memory: int) -> tuple["subprocess.Popen[bytes]", Connection]:
    """A process of its own start: the caller's main module is not run again in it."""
    ours, theirs = socket.socketpair()
    code = f"from wpg.sim_envs.vector import serve; serve({theirs.fileno()}, {memory})"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno(), memory])
    theirs.close()
    return process, Connection(ours.detach())


def serve(descriptor: int, memory: int) -> None:
    """What a worker does: obey until the other end closes; results are on the board before the answer is."""
    import wpg.sim_envs  # noqa: F401, PLC0415  registers the environments

    link = Connection(descriptor)
    env_id, num_envs, share, autoreset_mode, kwargs = link.recv()
    try:
        envs = gymnasium.make_vec(env_id, share.stop - share.start, autoreset_mode=autoreset_mode, **kwargs)
    except Exception as error:  # the caller raises it
        link.send(error)
        return
    observation, action = envs.single_observation_space, envs.single_action_space
    assert isinstance(observation, spaces.Dict)
    assert isinstance(action, spaces.Box)
    board = Board(memory, num_envs, action, observation)
    link.send((observation, action))
    while True:
        try:
            request, content = link.recv()
        except (EOFError, ConnectionError):
            break
        try:
            answer: Any = {}
            if request == "step":
                obs, board.rewards[share], *over, answer = envs.step(board.actions[share])
                board.flags[:, share] = *over, answer.pop("is_success")
                del answer["_is_success"]  # always there
                board.show(share, obs)
            elif not _asks_for_none(content[1]):
                obs, answer = envs.reset(seed=content[0], options=content[1])
                board.show(share, obs)
        except Exception as error:
            answer = error
        link.send(answer)
    envs.close()


def _asks_for_none(options: dict[str, Any] | None) -> bool:
    """Whether a reset is for environments of other workers only, which Gymnasium refuses."""
    return options is not None and "reset_mask" in options and not options["reset_mask"].any()
