"""Moving pictures of an environment."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wpg.controllers import flatten_obs
from wpg.controllers.evaluation import Act

Frame = NDArray[np.uint8]


def film(act: Act, env: gymnasium.Env[Any, Any], episodes: int, seed: int) -> tuple[list[Frame], float]:
    """Whole episodes, a frame a step.

    Args:
        act: the controller.
        env: made with ``render_mode="rgb_array"``.
        episodes: how many.
        seed: of the first reset; the next ones count on.

    Returns:
        Frames (height, width, 3), and how many make a second.
    """
    frames: list[Frame] = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        over = False
        while not over:
            frames.append(_picture(env))
            obs, _, terminated, truncated, _ = env.step(act(flatten_obs(obs)))
            over = terminated or truncated
        frames.append(_picture(env))
    return frames, float(env.metadata.get("render_fps", 20))


def random_act(env: gymnasium.Env[Any, Any], seed: int) -> Act:
    """A controller that draws actions from the environment's space."""
    env.action_space.seed(seed)
    return lambda _: np.asarray(env.action_space.sample(), np.float32)


def write_animation(path: Path, frames: list[Frame], rate_hz: float) -> None:
    """Write frames as an animation in the format that the file's ending names."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate_hz), loop=0)


def _picture(env: gymnasium.Env[Any, Any]) -> Frame:
    return np.asarray(env.render(), np.uint8)
