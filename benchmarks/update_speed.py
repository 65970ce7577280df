"""Measures updates per second on one core: `wpg`, Stable-Baselines3's SAC, SBX's SAC and CrossQ.

The sizes are those of HalfCheetah-v5 (17 observations, 6 actions), with twin critics of two layers of 256.
Batches of 256 are drawn from a replay memory as each library does it. Every contestant is a separate process,
in a separate environment if necessary. They take turns, so that all see the same machine, and the best of the
rounds counts. Seconds are the process's processor time on one core, so that other work on the machine matters
little. SAC updates its actor at every update, CrossQ and `wpg` at every third by default. `wpg` is also shown
with its actor updated at every one.

    taskset -c 0 python benchmarks/update_speed.py race --sb3 PYTHON --sbx PYTHON

SB3 and SBX need `pip install 'gymnasium[mujoco]' tyro` beside stable-baselines3 and sbx-rl.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import tyro
from rows import write

Library = Literal["wpg", "sb3", "sbx", "sbx-crossq"]
RESULTS = Path(__file__).parent / "results" / "update_speed.jsonl"
OBS_DIM, ACTION_DIM, HIDDEN, BATCH = 17, 6, 256, 256
ROWS = 3_000
"""Transitions in the replay memory."""
ROUND_UPDATES = 120
"""Updates of one round; a call of SBX does them all, which is the fastest it can."""


def wpg_updates(
    num_particles: int, policy_delay: int, precision: str, *, compiled: bool = False
) -> Callable[[int], None]:
    """Ours: `update(count)`."""
    import gymnasium  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from wpg.controllers.algorithm.learner import Learner  # noqa: PLC0415
    from wpg.controllers.config import TrainConfig, learner_settings  # noqa: PLC0415
    from wpg.controllers.cpu import tuned  # noqa: PLC0415
    from wpg.controllers.experience.environment import inspect_env  # noqa: PLC0415
    from wpg.controllers.experience.replay import Shares, Transitions, make_replay  # noqa: PLC0415
    from wpg.controllers.training.run_folder import build_networks  # noqa: PLC0415

    env = gymnasium.make("HalfCheetah-v5")
    spec = inspect_env(env)
    wanted = TrainConfig(
        env="HalfCheetah-v5", num_particles=num_particles, policy_delay=policy_delay, precision=precision
    )
    config = wanted.resolve(spec)
    generator = torch.Generator().manual_seed(0)
    policy, critic = build_networks(spec, config, generator)
    settings = replace(learner_settings(config), norm_warmup=0, compile=compiled)
    learner = Learner(policy, critic, settings, generator=generator)
    replay = make_replay(spec, ROWS, env, hindsight_ratio=config.hindsight_ratio, shares=Shares())
    rng = np.random.default_rng(0)
    for _ in range(ROWS):
        obs, next_obs = rng.normal(size=(2, 1, OBS_DIM))
        action = rng.uniform(-1, 1, (1, ACTION_DIM)).astype(np.float32)
        replay.add(Transitions(obs, action, rng.normal(size=1), np.zeros(1, np.bool_), next_obs))

    def update(count: int) -> None:
        with tuned(1):
            for _ in range(count):
                learner.update(replay.sample(BATCH, generator))

    return update


def peer_updates(library: Library) -> Callable[[int], None]:
    """Stable-Baselines3's or SBX's, filled with random steps: `update(count)`."""
    if library == "sb3":
        import torch  # noqa: PLC0415
        from stable_baselines3 import SAC as Algorithm  # noqa: PLC0415, N811

        torch.set_num_threads(1)
    elif library == "sbx":
        from sbx import SAC as Algorithm  # noqa: PLC0415, N811
    else:
        from sbx import CrossQ as Algorithm  # noqa: PLC0415

    narrow = {"net_arch": {"pi": [HIDDEN, HIDDEN], "qf": [HIDDEN, HIDDEN]}}
    model = Algorithm("MlpPolicy", "HalfCheetah-v5", learning_starts=ROWS, seed=0, policy_kwargs=narrow)
    model.learn(ROWS)
    return lambda count: model.train(count, BATCH)


def work(
    library: Library,
    *,
    particles: int = 16,
    period: int = 3,
    precision: str = "auto",
    compiled: bool = False,
) -> None:
    """Answer every line of standard input with the updates per second of one round.

    Args:
        library: What updates.
        particles: Particles of `wpg`.
        period: Critic updates to one of `wpg`'s actor.
        precision: Of `wpg`'s hidden layers: auto, float32 or bfloat16.
        compiled: Compile `wpg`'s update.
    """
    if library == "wpg":
        update = wpg_updates(particles, period, precision, compiled=compiled)
    else:
        update = peer_updates(library)
    update(ROUND_UPDATES)  # compiles what is compiled
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.process_time()
        update(ROUND_UPDATES)
        print(ROUND_UPDATES / (time.process_time() - begun), flush=True)


def race(sb3: Path, sbx: Path, *, rounds: int = 6, out: Path = RESULTS) -> None:
    """Measure all in turns, print a table and write it as JSON lines; ours in bfloat16 where it is fast.

    Args:
        sb3: Interpreter that has stable-baselines3.
        sbx: Interpreter that has sbx-rl.
        rounds: Turns of each; the best counts.
        out: File to write.
    """
    from wpg.controllers.config import TrainConfig  # noqa: PLC0415

    fastest = "bfloat16" if TrainConfig(env="HalfCheetah-v5").low_precision() else "float32"
    own = [(8, 3, fastest, False), (16, 3, fastest, False), (16, 1, fastest, False)]
    own += [] if fastest == "float32" else [(8, 3, "float32", False), (16, 3, "float32", False)]
    own += [(8, 3, fastest, True), (16, 3, fastest, True)]
    racers = {}
    for particles, period, precision, compiled in own:
        name = f"wpg, K = {particles}, actor every {period}, {precision}{', compiled' if compiled else ''}"
        options = ["--particles", str(particles), "--period", str(period), "--precision", precision]
        racers[name] = _start(sys.executable, "wpg", *options, *(["--compiled"] if compiled else []))
    racers["SB3 SAC"] = _start(str(sb3), "sb3")
    racers["SBX SAC"] = _start(str(sbx), "sbx")
    racers["SBX CrossQ"] = _start(str(sbx), "sbx-crossq")
    for racer in racers.values():
        _ask(racer, None)
    best = dict.fromkeys(racers, 0.0)
    for _ in range(rounds):
        for name, racer in racers.items():
            best[name] = max(best[name], float(_ask(racer, "go\n")))
    for racer in racers.values():
        racer.communicate(timeout=60)
    lines = [
        {"learner": name, "updates_per_s": round(rate, 1), "rounds": rounds, "cpu": _cpu()}
        for name, rate in best.items()
    ]
    write(out, lines)
    print("| one core | updates/s | ÷ SB3 SAC | ÷ SBX SAC |\n|---|---|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.0f} | {rate / best['SB3 SAC']:.2f} | {rate / best['SBX SAC']:.2f} |")


def _start(python: str, library: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, __file__, "work", "--library", library, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(racer: subprocess.Popen[str], line: str | None) -> str:
    """Send a line, if any, and wait for the answer; what libraries print besides is passed over."""
    if racer.stdin is None or racer.stdout is None:
        raise RuntimeError("a racer has no pipes")
    if line is not None:
        racer.stdin.write(line)
        racer.stdin.flush()
    for answer in racer.stdout:
        if answer.strip() == "ready" or answer.strip().replace(".", "", 1).isdigit():
            return answer
    raise RuntimeError(f"{racer.args!r} ended early")


def _cpu() -> str:
    names = [row for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else "unknown"


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"race": race, "work": work})
