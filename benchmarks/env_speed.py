"""Simulated time per second of one core: our environments, panda-gym's and Gymnasium-Robotics'.

    python benchmarks/env_speed.py [--rounds 8] [--json FILE]

Actions are random, and resets are included. The environments take turns, and the best round of each counts.
The clock is the processor time, so that other work on the machine matters little. A step simulates 50 ms in
our environments and 40 ms in the others, which are measured if they are installed. ``engine`` is the share of
the time that the bare engine takes to simulate as long. The last lines are the wall-clock speed of 16
environments at once, in Gymnasium's SyncVectorEnv and in what ``gymnasium.make_vec`` gives.
"""

import importlib
import importlib.util
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import tyro

import wpg.sim_envs  # noqa: F401  registers ours
from wpg.sim_envs.registration import TASKS

OURS = tuple(f"wpg/{task}{engine}-v0" for task in TASKS for engine in ("", "Bullet"))
PEERS = {
    "panda_gym": ("PandaReach-v3", "PandaPush-v3", "PandaPickAndPlace-v3"),
    "gymnasium_robotics": ("FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4"),
}
STEP_S = {"wpg": 0.05, "Panda": 0.04, "Fetch": 0.04}
STEPS = 250
VECTOR_ENVS = 16


def step_s(env_id: str) -> float:
    """Simulated time of one step."""
    return next(seconds for start, seconds in STEP_S.items() if env_id.startswith(start))


def run(env: gymnasium.Env[Any, Any], actions: list[Any]) -> float:
    """CPU seconds a step."""
    env.reset()
    start = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return (time.process_time() - start) / len(actions)


def run_engine(env: gymnasium.Env[Any, Any]) -> float:
    """CPU seconds to simulate as long as one step without a task around it."""
    robot, control_dt_s = env.unwrapped.robot, env.unwrapped.interface.control_dt_s  # type: ignore[attr-defined]
    start = time.process_time()
    for _ in range(STEPS):
        robot.advance(control_dt_s)
    return (time.process_time() - start) / STEPS


def single(names: list[str], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds a step of each environment, and of its engine alone."""
    envs = {name: gymnasium.make(name) for name in names}
    actions = {}
    for name, env in envs.items():
        env.reset(seed=0)
        env.action_space.seed(0)
        actions[name] = [env.action_space.sample() for _ in range(STEPS)]
    steps, engines = dict.fromkeys(names, np.inf), dict.fromkeys(OURS, np.inf)
    for _ in range(rounds):
        for name, env in envs.items():
            steps[name] = min(steps[name], run(env, actions[name]))
            if name in engines:
                engines[name] = min(engines[name], run_engine(env))
    for env in envs.values():
        env.close()
    return steps, engines


def vectorised(env_id: str, rounds: int) -> dict[str, float]:
    """Steps of single environments in a second of wall-clock time, by kind of vector environment."""
    envs: dict[str, Any] = {
        "SyncVectorEnv": gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(env_id)] * VECTOR_ENVS),
        "make_vec": gymnasium.make_vec(env_id, VECTOR_ENVS),
    }
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (10, VECTOR_ENVS, 7)).astype(np.float32)
    best = dict.fromkeys(envs, np.inf)
    for env in envs.values():
        env.reset(seed=0)
    for _ in range(10 * rounds):
        for name, env in envs.items():
            start = time.perf_counter()
            for action in actions:
                env.step(action)
            best[name] = min(best[name], (time.perf_counter() - start) / actions[..., 0].size)
    for env in envs.values():
        env.close()
    return {name: 1.0 / seconds for name, seconds in best.items()}


def main(
    *,
    rounds: int = 8,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the table."""
    names = list(OURS)
    for module, ids in PEERS.items():
        if importlib.util.find_spec(module) is not None:
            gymnasium.register_envs(importlib.import_module(module))
            names += ids
    steps, engines = single(names, rounds)
    print(f"mujoco {version('mujoco')}, pybullet {version('pybullet')}")
    print(f"{'':28}{'steps/s':>10}{'sim s/s':>10}{'engine':>10}")
    for name, seconds in steps.items():
        share = f"{100 * engines[name] / seconds:9.0f}%" if name in engines else ""
        print(f"{name:28}{1 / seconds:10.0f}{step_s(name) / seconds:10.1f}{share}")
    vector = {}
    for name in OURS[:2]:
        vector[name] = vectorised(name, rounds)
        print(f"{name:28}" + "".join(f"   {kind} {rate:.0f}/s" for kind, rate in vector[name].items()))
    if json_file:
        rates = {name: 1 / seconds for name, seconds in steps.items()}
        shares = {name: engines[name] / steps[name] for name in engines}
        json_file.write_text(
            json.dumps({"steps_per_s": rates, "engine_share": shares, "vector": vector}, indent=2)
        )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
