"""Options of an export: how particles are drawn, refined and chosen, and what else goes into the file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpg.export.contract import ActionChoice, SamplerSpec, noise_size
from wpg.export.errors import ContractError

SWITCH_COST_TEMPERATURES = 10.0
"""Default switch cost of ``best_with_hysteresis``, as a multiple of the temperature."""
MAX_REFINEMENT_STEPS = 64
"""Limit of refinement steps: each is unrolled in the graph and costs a critic gradient for every particle."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Choices about the sampler that are open at export; the rest follows from the policy.

    Raises:
        ContractError: a value is out of range.
    """

    num_particles: int | None = None
    """Default number of particles; None takes the number C of the policy's components.

    With ``sample`` it must be a multiple of C, because particle k belongs to component k mod C.
    """
    refinement_steps: int = 0
    """Langevin steps M of every particle, ``MAX_REFINEMENT_STEPS`` at most."""
    step_size: float = 0.05
    """Step size η of a refinement step."""
    choice: ActionChoice = "best"
    """Which particle becomes the action."""
    switch_cost: float | None = None
    """Switch cost of ``best_with_hysteresis``; None takes 10 times the temperature."""
    noise_scale: float = 1.0
    """Factor on the noise, applied in the graph; 0 gives the means of the components."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("num_particles", self.num_particles, 1),
            ("refinement_steps", self.refinement_steps, 0),
            ("step_size", self.step_size, 0.0),
            ("switch_cost", self.switch_cost, 0.0),
            ("noise_scale", self.noise_scale, 0.0),
        ):
            if value is not None and not least <= value < np.inf:
                raise ContractError(f"{name}: expected at least {least}, found {value}")
        if self.refinement_steps > MAX_REFINEMENT_STEPS:
            raise ContractError(
                f"refinement_steps: expected at most {MAX_REFINEMENT_STEPS}, found {self.refinement_steps}"
            )

    def spec(self, *, action_dim: int, num_components: int, temperature: float) -> SamplerSpec:
        """The sampler's part of the contract, for a policy of this size and temperature τ.

        Raises:
            ContractError: ``sample`` would not choose all components equally often.
        """
        switch_cost = 0.0
        if self.choice == "best_with_hysteresis":
            default = SWITCH_COST_TEMPERATURES * temperature
            switch_cost = default if self.switch_cost is None else self.switch_cost
        spec = SamplerSpec(
            num_particles=num_components if self.num_particles is None else self.num_particles,
            num_components=num_components,
            noise_dim=noise_size(action_dim, self.refinement_steps, self.choice),
            refinement_steps=self.refinement_steps,
            step_size=self.step_size if self.refinement_steps else 0.0,
            temperature=temperature,
            choice=self.choice,
            switch_cost=switch_cost,
            noise_scale=self.noise_scale,
        )
        spec.check_particles(spec.num_particles)
        return spec


AS_TRAINED = SamplerOptions()
"""The defaults: no refinement, the critics' best particle, and the noise of training."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a policy is written."""

    sampler: SamplerOptions = AS_TRAINED
    """How particles are drawn, refined and chosen."""
    interface: str | Path | None = None
    """TOML file that replaces the interface which the environment declares."""
    licence: str | None = None
    """SPDX identifier."""
    sign_key: bytes | None = None
    """Shared secret to sign the file with; None leaves it unsigned."""
