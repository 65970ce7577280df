"""Finds where a policy breaks: its success in simulation over delay and over joint friction.

    python benchmarks/robustness.py policy.onnx [--episodes 100] [--out benchmarks/results/robustness]

Writes OUT.jsonl, with one line for each setting, and OUT.png. Delay is from setpoint to effect. Friction is a
multiple of what Gaz et al. (RA-L 2019) identified on a Panda: half the range of their sigmoid, taken as dry
friction. At zero the arm has no effects, as in the environment. Bars are Wilson's 95 % intervals.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tyro
from identification import FRICTION_NM
from rows import append

from wpg.cli.acting import acting
from wpg.controllers.experience.evaluation import run_episodes
from wpg.sim_envs.effects import Effects, JointEffects

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DELAYS_MS = (0, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150)
FRICTION_FACTORS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0)
PANDA_FRICTION = {
    f"panda_joint{number}": JointEffects(coulomb_friction_nm=float(friction))
    for number, friction in enumerate(FRICTION_NM, start=1)
}


def success(path: Path, env_id: str, effects: Effects, episodes: int) -> dict[str, Any]:
    """Share of episodes that end at the goal, with its interval."""
    with acting(path, env_id, "best", seed=0, effects=effects) as (act, env, _):
        found = run_episodes(act, env, range(episodes))
    return {"success": found.success_rate, "ci95": found.success_ci95, "episodes": episodes}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Success over both quantities."""
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), sharey=True, layout="constrained")
    labels = {"delay_ms": "delay, ms", "friction_factor": "friction, times a Panda's"}
    for axis, (key, label) in zip(axes, labels.items(), strict=True):
        for env_id in dict.fromkeys(row["env"] for row in rows):
            own = [row for row in rows if row["env"] == env_id and key in row]
            rate = np.array([row["success"] for row in own])
            bars = np.abs(np.array([row["ci95"] for row in own]).T - rate)
            name = "PyBullet" if "Bullet" in env_id else "MuJoCo"
            axis.errorbar([row[key] for row in own], rate, bars, marker="o", capsize=3, label=name)
        axis.set(xlabel=label, ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("success")
    if len(axes[0].get_legend_handles_labels()[0]) > 1:
        axes[0].legend()
    figure.savefig(path, dpi=120)


def main(
    policy: tyro.conf.Positional[Path],
    *,
    env: tuple[str, ...] = ("wpg/PandaReach-v0",),
    episodes: int = 100,
    out: Path = Path("robustness"),
) -> None:
    """Measure, write, draw."""
    settings: list[tuple[dict[str, float], Effects]] = [
        ({"delay_ms": delay}, Effects(action_delay_s=delay / 1000)) for delay in DELAYS_MS
    ]
    settings += [
        ({"friction_factor": factor}, Effects(joints=PANDA_FRICTION, friction_factor=factor))
        for factor in FRICTION_FACTORS
    ]
    rows = []
    lines = out.with_suffix(".jsonl")
    lines.unlink(missing_ok=True)
    for env_id in env:
        for setting, effects in settings:
            row = {"env": env_id, **setting, **success(policy, env_id, effects, episodes)}
            rows.append(row)
            print(json.dumps(row))
            append(lines, row)
    plot(rows, out.with_suffix(".png"))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
