"""Makes a picture of every task, MuJoCo above and PyBullet below.

python benchmarks/task_pictures.py [--out docs/images/tasks.png]
"""

from pathlib import Path

import gymnasium
import matplotlib as mpl
import numpy as np
import tyro
from numpy.typing import NDArray

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.sim_envs.registration import TASKS

mpl.use("agg")
from matplotlib import pyplot as plt

SEEDS = {"PandaReach": 4}
"""Seeds of episodes that begin with arm and goal well in sight; by default ``SEED``."""
SEED = 60
CROP = (slice(10, 470), slice(110, 590))
ENGINES = {"MuJoCo": "", "PyBullet": "Bullet"}


def picture(env_id: str, seed: int) -> NDArray[np.uint8]:
    """The start of an episode, cropped."""
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=seed)
    image = np.asarray(env.render())[CROP]
    env.close()
    return image


def main(*, out: Path = Path("docs/images/tasks.png")) -> None:
    """Write the picture."""
    figure, grid = plt.subplots(len(ENGINES), len(TASKS), figsize=(9.6, 4.9), layout="constrained")
    for axes, (engine, suffix) in zip(grid, ENGINES.items(), strict=True):
        for cell, task in zip(axes, TASKS, strict=True):
            cell.imshow(picture(f"wpg/{task}{suffix}-v0", SEEDS.get(task, SEED)))
            cell.set(xticks=[], yticks=[], frame_on=False)
        axes[0].set_ylabel(engine)
    for cell, task in zip(grid[0], TASKS, strict=True):
        cell.set_title(task, fontsize=10)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
