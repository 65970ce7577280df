"""Trains policies with Stable-Baselines3, exports them, and runs them over an emulated serial line.

    pip install stable-baselines3
    python benchmarks/stable_baselines.py [--out DIR] [--sac-steps 40000] [--ppo-steps 200000] [--goals 20]

SAC with hindsight learns wpg/PandaReach-v0 and wpg/PandaReachBullet-v0, and PPO learns the dense form.
Nothing of wpg is imported for that. Each zip is exported by ``wpg export``, evaluated by ``wpg evaluate``,
and run by ``wpg run`` against ``wpg emulate`` in another process. A zip that DIR already holds is not trained
again.
"""

import json
import sys
from pathlib import Path
from typing import Any

try:
    from stable_baselines3 import PPO, SAC, HerReplayBuffer
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize
except ModuleNotFoundError as error:
    sys.exit(f"this benchmark needs {error.name}: pip install stable-baselines3")

from typing import Annotated, Literal

import torch
import tyro
from wpg_process import emulated, run_command

from wpg.controllers.statistics import wilson_interval


def train_sac(path: Path, env: str, steps: int, seed: int) -> None:
    """SAC with hindsight experience replay on a sparse reward."""
    envs = VecNormalize(make_vec_env(env, n_envs=8, seed=seed), norm_reward=False)
    model = SAC(
        "MultiInputPolicy",
        envs,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        learning_rate=1e-3,
        gamma=0.95,
        tau=0.02,
        ent_coef="auto_0.1",
        learning_starts=2000,
        gradient_steps=2,
        seed=seed,
    )
    learn(model, envs, path, steps)


def train_ppo(path: Path, env: str, steps: int, seed: int) -> None:
    """PPO on a dense reward."""
    envs = VecNormalize(make_vec_env(env, n_envs=8, seed=seed))
    model = PPO(
        "MultiInputPolicy",
        envs,
        n_steps=128,
        batch_size=256,
        learning_rate=1e-3,
        gamma=0.95,
        policy_kwargs={"log_std_init": -0.7},
        seed=seed,
    )
    learn(model, envs, path, steps)


POLICIES = {
    "sac": ("wpg/PandaReach-v0", train_sac),
    "sac-bullet": ("wpg/PandaReachBullet-v0", train_sac),
    "ppo": ("wpg/PandaReachDense-v0", train_ppo),
}


def learn(model: BaseAlgorithm, envs: VecNormalize, path: Path, steps: int) -> None:
    """Train, and save policy and statistics side by side."""
    model.learn(steps)
    envs.save(str(path.with_suffix(".pkl")))
    model.save(path)


def over_the_link(artifact: Path, goals: int, seed: int) -> dict[str, Any]:
    """What the bridge reports of a run over a pseudo-terminal."""
    result = artifact.with_suffix(".run.json")
    with emulated("panda", "--link", "pty:") as arm:
        options = ["--goals", str(goals), "--seed", str(seed), "--json", result]
        run_command("run", artifact, "--robot", "panda", "--link", arm.link, *options)
    return dict(json.loads(result.read_text()))


def trial(zip_path: Path, env: str, episodes: int, goals: int, seed: int) -> dict[str, Any]:
    """Success of one zip in simulation and over the link."""
    artifact, evaluation = zip_path.with_suffix(".onnx"), zip_path.with_suffix(".evaluation.json")
    statistics = ["--vec-normalize", zip_path.with_suffix(".pkl")]
    run_command("export", zip_path, "--env", env, "--out", artifact, *statistics)
    run_command("evaluate", artifact, "--episodes", str(episodes), "--json", evaluation)
    simulated, report = json.loads(evaluation.read_text()), over_the_link(artifact, goals, seed)
    return {
        "policy": zip_path.stem,
        "success_sim": simulated["success_rate"],
        "success_sim_ci95": simulated["success_ci95"],
        "success_link": report["successes"] / report["goals"],
        "success_link_ci95": wilson_interval(report["successes"], report["goals"]),
        "missed_deadlines": report["missed_deadlines"],
        "limit_violations": report["limit_violations"],
    }


def main(
    *,
    out: Path = Path("runs/stable_baselines"),
    sac_steps: int = 40_000,
    ppo_steps: int = 200_000,
    episodes: int = 100,
    goals: int = 20,
    seed: int = 0,
    only: tuple[Literal[*tuple(POLICIES)], ...] = tuple(POLICIES),
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the table as Markdown."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in only:
        env, train = POLICIES[name]
        zip_path = out / f"{name}.zip"
        if not zip_path.exists():
            steps = sac_steps if train is train_sac else ppo_steps
            train(zip_path, env, steps, seed)
        rows.append(trial(zip_path, env, episodes, goals, seed))
    print("| policy | success in simulation | 95 % | over the link | 95 % |\n|---|---|---|---|---|")
    for row in rows:
        (low, high), (least, most) = row["success_sim_ci95"], row["success_link_ci95"]
        print(
            f"| {row['policy']} | {row['success_sim']:.2f} | {low:.2f} to {high:.2f} "
            f"| {row['success_link']:.2f} | {least:.2f} to {most:.2f} |"
        )
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
