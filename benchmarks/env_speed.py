"""Environment steps a second with random actions, and what share of the time the engine itself takes.

    python benchmarks/env_speed.py [--steps 3000] [--json FILE]

panda-gym and Gymnasium-Robotics stand beside ours where they are installed. A step of ours simulates 50 ms.
"""

import argparse
import importlib
import importlib.util
import json
import platform
import time
from pathlib import Path

import gymnasium

import wpg.sim_envs  # noqa: F401  registers ours

OURS = (
    "wpg/PandaReach-v0",
    "wpg/PandaReachBullet-v0",
    "wpg/PandaPush-v0",
    "wpg/PandaPushBullet-v0",
)
PEERS = {"panda_gym": ("PandaReach-v3",), "gymnasium_robotics": ("FetchReach-v4",)}


def steps_per_second(env_id: str, steps: int) -> float:
    """Best of three rounds of random actions, resets included."""
    env = gymnasium.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        best = max(best, steps / (time.perf_counter() - start))
    env.close()
    return best


def engine_share(env_id: str, steps: int) -> float:
    """Time that simulating as long as one step takes without a task around it, times steps a second."""
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(steps):
            env.robot.advance(env.interface.control_dt_s)
        best = min(best, (time.perf_counter() - start) / steps)
    env.close()
    return best * steps_per_second(env_id, steps)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = list(OURS)
    for module, ids in PEERS.items():
        if importlib.util.find_spec(module) is not None:
            gymnasium.register_envs(importlib.import_module(module))
            names += ids
    speed = {name: steps_per_second(name, options.steps) for name in names}
    share = {name: engine_share(name, options.steps) for name in OURS}
    print(f"one core of {platform.processor() or platform.machine()}")
    for name, rate in speed.items():
        engine = f"   engine {100 * share[name]:.0f} % of the time" if name in share else ""
        print(f"{name:28}{rate:10.0f} steps/s{engine}")
    if options.json:
        options.json.write_text(json.dumps({"steps_per_s": speed, "engine_share": share}, indent=2))


if __name__ == "__main__":
    main()
