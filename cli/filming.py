"""Films an environment into a file, or shows it in a window."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from PIL import Image

from wpg.cli.options import CommandError, UsageError
from wpg.cli.terminal import terminal
from wpg.controllers import flatten_obs
from wpg.controllers.experience.environment import env_name, time_limit
from wpg.controllers.experience.evaluation import Act, play
from wpg.controllers.files import replacing

Frame = NDArray[np.uint8]
FORMATS = (".mp4", ".gif", ".webp", ".png")
MAX_EPISODE_STEPS = 1000
"""Steps after which an episode is cut if the environment has no time limit."""


def require_format(path: Path) -> None:
    """Check that a film can be written to this file.

    Raises:
        UsageError: the suffix is not that of a known format.
        CommandError: MP4 was asked for, but imageio-ffmpeg is not installed.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: expected a file that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise CommandError(f"{path}: MP4 needs pip install imageio-ffmpeg; .gif and .webp do not")


def film(act: Act, env: gymnasium.Env[Any, Any], episodes: int, seed: int) -> list[Frame]:
    """Frames (height, width, 3) of whole episodes, one for each step.

    Args:
        act: the controller.
        env: made with ``render_mode="rgb_array"``.
        episodes: number of episodes.
        seed: of the first reset; it increases by one per episode.

    Raises:
        CommandError: the environment gives no pictures.
    """
    try:
        frames = [env.render() for _ in _steps(act, env, episodes, seed)]
    except gymnasium.error.Error as error:
        raise CommandError(f"no pictures: {error}") from error
    except NotImplementedError:
        frames = [None]
    if frames[0] is None:
        raise CommandError(f"no pictures: {env_name(env)} does not render rgb_array")
    return [np.asarray(frame, np.uint8) for frame in frames]


def watch(act: Act, env: gymnasium.Env[Any, Any], episodes: int, seed: int) -> None:
    """Play episodes in a window, at most in real time; the environment has ``render_mode="human"``."""
    period_s = 1.0 / rate_hz(env)
    due_s = time.monotonic()
    for _ in _steps(act, env, episodes, seed):
        due_s = max(due_s + period_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))


def rate_hz(env: gymnasium.Env[Any, Any]) -> float:
    """Steps per second of real time."""
    return float(env.metadata.get("render_fps") or 20)


def _steps(act: Act, env: gymnasium.Env[Any, Any], episodes: int, seed: int) -> Iterator[None]:
    """Play episodes, and yield after every reset and every step."""
    unlimited = time_limit(env) is None
    played = TimeLimit(env, MAX_EPISODE_STEPS) if unlimited else env
    for episode in range(episodes):
        steps = -1  # the first moment is that of the reset
        for _ in play(lambda obs: act(flatten_obs(obs)), played, seed + episode):
            steps += 1
            yield
        if unlimited and steps == MAX_EPISODE_STEPS:
            terminal().print(
                f"{env_name(env)} has no time limit: the episode was cut after {steps:,} steps",
                soft_wrap=True,
            )


def random_act(env: gymnasium.Env[Any, Any], seed: int) -> Act:
    """A controller that draws actions from the environment's space."""
    env.action_space.seed(seed)
    return lambda _: np.asarray(env.action_space.sample(), np.float32)


def write_film(path: Path, frames: list[Frame], rate_hz: float) -> None:
    """Write frames in the format that the file's suffix names; an unfinished file is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.removeprefix(".")
    with replacing(path) as partial:
        if kind == "mp4":
            _write_mp4(partial, frames, rate_hz)
            return
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(partial, kind, save_all=True, append_images=rest, duration=round(1000 / rate_hz), loop=0)


def _write_mp4(path: Path, frames: list[Frame], rate_hz: float) -> None:
    import imageio_ffmpeg  # noqa: PLC0415  an extra

    height, width, _ = frames[0].shape
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=rate_hz, macro_block_size=2, output_params=["-f", "mp4"]
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
