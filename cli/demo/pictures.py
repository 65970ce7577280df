"""Pictures of the policy at work, rendered without a screen."""

import io
from dataclasses import dataclass
from itertools import islice

import gymnasium
import matplotlib.image
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from wpg.cli.acting import artifact_act
from wpg.controllers import flatten_obs
from wpg.controllers.experience.evaluation import play
from wpg.export.artifact import Artifact
from wpg.sim_envs.errors import RenderError

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Moments of one episode."""

    env: str
    times_s: tuple[float, ...]
    images: tuple[Image, ...]
    """(height, width, 3) each."""

    def png(self) -> bytes:
        """All moments side by side."""
        buffer = io.BytesIO()
        matplotlib.image.imsave(buffer, np.concatenate(self.images, axis=1), format="png")
        return buffer.getvalue()


def picture_strip(artifact: Artifact, envs: tuple[str, ...], seed: int, moments: tuple[int, ...]) -> Strip:
    """Pictures of one episode after these numbers of steps, in the first env that can be rendered.

    Raises:
        RenderError: none of the environments can be rendered on this machine.
    """
    for env_id in envs:
        env = gymnasium.make(env_id, render_mode="rgb_array")
        try:
            images = _episode(env, artifact, seed, moments)
        except RenderError:
            if env_id == envs[-1]:
                raise
            continue
        finally:
            env.close()
        dt = artifact.contract.interface.control_dt_s
        return Strip(env=env_id, times_s=tuple(dt * moment for moment in moments), images=images)
    raise ValueError("no environments to draw")


def _episode(
    env: gymnasium.Env[dict[str, NDArray[np.float32]], NDArray[np.float32]],
    artifact: Artifact,
    seed: int,
    moments: tuple[int, ...],
) -> tuple[Image, ...]:
    assert isinstance(env.action_space, Box)
    act = artifact_act(artifact, env.action_space, "best", seed=seed)
    played = play(lambda obs: act(flatten_obs(obs)), env, seed)
    return tuple(
        np.asarray(env.render(), np.uint8)
        for step, _ in enumerate(islice(played, max(moments) + 1))
        if step in moments
    )
