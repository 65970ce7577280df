"""From a trained policy to a controller: how one action is chosen of the policy's distribution."""

from typing import get_args

import numpy as np
import torch

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.flow import scale_noise
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.config import Select
from wpg.controllers.errors import ConfigError, UnsupportedEnvError
from wpg.controllers.experience.environment import EnvSpec, FloatArray
from wpg.controllers.experience.evaluation import Act


def make_act(policy: ParticlePolicy, critic: Critic, spec: EnvSpec, select: Select, *, seed: int = 0) -> Act:
    """A controller that chooses actions with frozen copies of the networks.

    `best` takes the particle that the critics value most, `mean` the mean of the particles before the tanh,
    and `sample` a sample of the policy. Only `sample` includes the noise around the particles. (`wpg evaluate
    --select mean` takes the mean of an exported file's particles, after the tanh and with their noise.)

    Args:
        policy: proposes the particles.
        critic: values them; `min_i Q_i` counts.
        spec: scales the actions to the environment's units.
        select: how to choose.
        seed: of the samples.

    Raises:
        ConfigError: there is no such way to choose.
        UnsupportedEnvError: raised by the controller for an observation of another shape than in training.
    """
    if select not in get_args(Select):
        raise ConfigError(f"select must be one of {', '.join(get_args(Select))}, it is {select!r}")
    generator = torch.Generator().manual_seed(seed)
    mixture, values = policy.frozen(), critic.frozen()

    def choose(obs: torch.Tensor) -> torch.Tensor:
        mean, log_std, stretch = (part[0] for part in mixture(obs))  # (K, A) each
        if select == "mean":
            return torch.tanh(mean.mean(0))
        if select == "sample":
            index = int(torch.randint(policy.num_particles, (), generator=generator))
            noise = torch.randn(policy.action_dim, generator=generator).to(mean.device)
            return torch.tanh(mean[index] + scale_noise(noise, log_std[index], stretch[index]))
        particles = torch.tanh(mean)
        return particles[values(obs.expand(len(particles), -1), particles).amin(0).argmax()]

    device = next(policy.parameters()).device

    @torch.inference_mode()
    def act(obs: FloatArray) -> FloatArray:
        if np.shape(obs) != (spec.obs_dim,):
            raise UnsupportedEnvError(
                f"this policy of {spec.env_id} takes observations of the shape ({spec.obs_dim},), "
                f"found {np.shape(obs)}"
            )
        action = choose(torch.from_numpy(np.asarray(obs, np.float32))[None].to(device))
        return spec.scale_action(action.cpu().numpy())

    return act
