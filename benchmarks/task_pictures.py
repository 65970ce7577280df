"""Makes a strip with a picture of every task, MuJoCo above and PyBullet below.

python benchmarks/task_pictures.py [--out docs/images/tasks.png]
"""

from pathlib import Path

import gymnasium
import numpy as np
import tyro
from matplotlib.image import imsave
from numpy.typing import NDArray

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.sim_envs.registration import TASKS

SEED = 60
CROP = (slice(10, 470), slice(110, 590))
SHRINK = 2


def picture(env_id: str) -> NDArray[np.uint8]:
    """The start of an episode, cut out and made smaller."""
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=SEED)
    image = np.asarray(env.render())[CROP].astype(np.float64)
    env.close()
    height, width, _ = image.shape
    blocks = image.reshape(height // SHRINK, SHRINK, width // SHRINK, SHRINK, 3)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)


def main(
    *,
    out: Path = Path("docs/images/tasks.png"),
) -> None:
    """Write the strip."""
    rows = [
        np.concatenate([picture(f"wpg/{task}{engine}-v0") for task in TASKS], axis=1)
        for engine in ("", "Bullet")
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    imsave(out, np.concatenate(rows, axis=0))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
