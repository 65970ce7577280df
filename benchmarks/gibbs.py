"""Measures how exactly the particle policy fits known Gibbs densities.

Every target is a density on the box [−1, 1]^A, given to `fit_gibbs` as `q = τ log p` or by its own q. In one
and two dimensions it is normalised on a grid. In more dimensions it is a mixture of truncated Gaussians,
whose density and samples are exact. The errors are forward and reverse KL in nat, W2, and the largest error
of a mode's mass. W2 is compared with the distance of two sets of the target's own samples (the sampling
floor); both are averaged over 24 draws.

    python benchmarks/gibbs.py --out benchmarks/results/gibbs.jsonl
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rows import write
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from wpg.controllers import ParticlePolicy, fit_gibbs

W2_SAMPLES = 700
W2_DRAWS = 24
"""Pairs of sample sets that W2 and its floor are averaged over."""
MASS_SAMPLES = 20_000
FIGURES = ("forward_kl", "reverse_kl", "w2", "w2_floor")
GRID = {1: 4000, 2: 240}
CORNERS = torch.tensor([[-0.6, -0.6], [0.6, -0.5], [-0.5, 0.6], [0.55, 0.6]])
HEIGHTS = torch.tensor([1.0, 0.95, 0.9, 0.85])


@dataclass(frozen=True, kw_only=True)
class Target:
    """A density that is normalised on a grid."""

    name: str
    q: Callable[[Tensor], Tensor]
    tau: float
    action_dim: int
    modes: Tensor | None = None
    """Centres (M, A): a point counts to the nearest."""
    quoted: bool = False
    """One of the six whose mean is quoted: bumps, ring and banana at two temperatures."""
    cells: Tensor = field(init=False)
    log_p: Tensor = field(init=False)
    """Log density at the cells."""

    def __post_init__(self) -> None:
        count = GRID[self.action_dim]
        axis = (torch.arange(count) + 0.5) / count * 2 - 1
        cells = torch.tensor(list(itertools.product(axis.tolist(), repeat=self.action_dim)))
        scaled = self.q(cells) / self.tau
        object.__setattr__(self, "cells", cells)
        object.__setattr__(
            self, "log_p", scaled - scaled.logsumexp(0) - self.action_dim * math.log(2 / count)
        )

    def sample(self, number: int, generator: torch.Generator) -> Tensor:
        """Draw (number, A)."""
        index = torch.multinomial(self.log_p.exp(), number, replacement=True, generator=generator)
        jitter = torch.rand(number, self.action_dim, generator=generator) - 0.5
        return self.cells[index] + jitter * 2 / GRID[self.action_dim]

    def log_density(self, action: Tensor) -> Tensor:
        """Log density (N,)."""
        return self.q(action) / self.tau - (self.q(self.cells[:1]) / self.tau - self.log_p[:1])


class Bumps:
    """Truncated Gaussians of unequal mass in any number of dimensions; everything about it is exact."""

    quoted = False

    def __init__(self, name: str, *, modes: Tensor, mass: Tensor, std: float, tau: float) -> None:
        self.name, self.modes, self.mass, self.std, self.tau = name, modes, mass, std, tau
        self.action_dim = modes.shape[1]
        edges = torch.special.ndtr((torch.tensor([-1.0, 1.0]).view(2, 1, 1) - modes) / std)
        self._low, self._high = edges[0], edges[1]

    def log_density(self, action: Tensor) -> Tensor:
        """Log density (N,)."""
        z = (action.unsqueeze(-2) - self.modes) / self.std
        single = (
            -0.5 * z.square() - math.log(self.std * math.sqrt(2 * math.pi)) - (self._high - self._low).log()
        )
        return (single.sum(-1) + self.mass.log()).logsumexp(-1)

    def q(self, action: Tensor) -> Tensor:
        """The action value whose Gibbs density this is."""
        return self.tau * self.log_density(action)

    def sample(self, number: int, generator: torch.Generator) -> Tensor:
        """Draw (number, A)."""
        index = torch.multinomial(self.mass, number, replacement=True, generator=generator)
        low, high = self._low[index], self._high[index]
        level = low + (high - low) * torch.rand(low.shape, generator=generator)
        return self.modes[index] + self.std * torch.special.ndtri(level)


def bumps(action: Tensor) -> Tensor:
    """Four bumps of unequal height."""
    distance = (action.unsqueeze(-2) - CORNERS).square().sum(-1)
    return (HEIGHTS * torch.exp(-distance / (2 * 0.15**2))).sum(-1)


def ring(action: Tensor) -> Tensor:
    """A ring of radius 0.6."""
    return torch.exp(-(((action.square().sum(-1) + 1e-8).sqrt() - 0.6) ** 2) / (2 * 0.12**2))


def banana(action: Tensor) -> Tensor:
    """A parabola."""
    x, y = action[..., 0], action[..., 1]
    return 1 - 4 * (y - (1.6 * x**2 - 0.6)) ** 2 - 0.3 * x**2


def funnel(action: Tensor) -> Tensor:
    """Wide at one end, narrow at the other."""
    x, y = action[..., 0], action[..., 1]
    return -(x**2) - 0.5 * (y / (0.08 * torch.exp(1.5 * x))) ** 2 * 0.1


def edges(action: Tensor) -> Tensor:
    """Highest at two opposite edges of the box."""
    return action[..., 0] ** 2 + 0.1 * action[..., 0] - 0.5 * action[..., 1] ** 2


def targets() -> list[Target | Bumps]:
    """All targets."""
    ring_modes = torch.tensor(
        [[0.6 * math.cos(t), 0.6 * math.sin(t)] for t in torch.arange(12) / 6 * math.pi]
    )
    found: list[Target | Bumps] = []
    for tau in (0.05, 0.2):
        two = {"tau": tau, "action_dim": 2, "quoted": True}
        found.append(Target(name="bumps", q=bumps, modes=CORNERS, **two))
        found.append(Target(name="ring", q=ring, modes=ring_modes, **two))
        found.append(Target(name="banana", q=banana, **two))
    sides = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    found += [
        Target(name="funnel", q=funnel, tau=0.1, action_dim=2),
        Target(name="edges", q=edges, tau=0.1, action_dim=2, modes=sides),
        Target(name="flat", q=lambda a: 0 * a.sum(-1), tau=1.0, action_dim=2),
        Target(name="sharp", q=lambda a: -20 * (a - 0.3).square().sum(-1), tau=0.02, action_dim=2),
        Target(name="slope", q=lambda a: a[..., 0], tau=0.1, action_dim=1),
    ]
    generator = torch.Generator().manual_seed(7)
    for size in (1, 3, 7):
        modes = (
            (torch.rand(4, size, generator=generator) * 1.4 - 0.7)
            if size > 1
            else torch.tensor([[-0.7], [-0.1], [0.3], [0.8]])
        )
        mass = torch.tensor([0.4, 0.3, 0.2, 0.1])
        found.append(Bumps(f"four modes in {size}-D", modes=modes, mass=mass, std=0.12, tau=0.1))
    return found


def measure(target: Target | Bumps, policy: ParticlePolicy) -> dict[str, float | None]:
    """Distances of the fitted policy from the target."""
    generator = torch.Generator().manual_seed(1)
    one = torch.ones(1, 1)
    draws, others = (target.sample(MASS_SAMPLES, generator) for _ in range(2))
    own = policy.sample(one, MASS_SAMPLES, generator)[0]

    def log_policy(action: Tensor) -> Tensor:
        return torch.cat([policy.log_prob(one.expand(len(part), 1), part) for part in action.split(4000)])

    if isinstance(target, Target):
        log_q, p = log_policy(target.cells), target.log_p.exp()
        forward = ((p * (target.log_p - log_q)).sum() / p.sum()).item()
        q = log_q.exp()
        reverse = ((q * (log_q - target.log_p)).sum() / q.sum()).item()
    else:
        forward = (target.log_density(draws) - log_policy(draws)).mean().item()
        reverse = (log_policy(own) - target.log_density(own)).mean().item()
    error = None
    found = None
    if target.modes is not None:
        masses = [
            torch.bincount(torch.cdist(x, target.modes).argmin(1), minlength=len(target.modes)) / len(x)
            for x in (draws, own)
        ]
        error = (masses[0] - masses[1]).abs().max().item()
        found = float((masses[1] > masses[0] / 4).float().mean())
    first, second, fitted = (x.split(W2_SAMPLES)[:W2_DRAWS] for x in (draws, others, own))
    return {
        "forward_kl": forward,
        "reverse_kl": reverse,
        "w2": _w2(first, fitted),
        "w2_floor": _w2(first, second),
        "mass_error": error,
        "modes_found": found,
    }


def _w2(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Mean distance of the pairs of sample sets.

    Between sets of equal size and weight the optimal transport is an assignment.
    """
    found = []
    for one, other in zip(first, second, strict=True):
        cost = cdist(one.double(), other.double(), "sqeuclidean")
        found.append(math.sqrt(cost[linear_sum_assignment(cost)].mean()))
    return statistics.mean(found)


def fit(target: Target | Bumps, iterations: int, num_particles: int, seed: int) -> dict[str, Any]:
    """One fit, and how far it is from the target."""
    begun = time.process_time()
    policy = fit_gibbs(
        lambda _, action: target.q(action),
        obs_dim=1,
        action_dim=target.action_dim,
        tau=target.tau,
        iterations=iterations,
        seed=seed,
        num_particles=num_particles,
    )
    seconds = round(time.process_time() - begun, 1)
    settings = {"iterations": iterations, "num_particles": num_particles, "seed": seed, "fit_s": seconds}
    return {"target": target.name, "tau": target.tau, **measure(target, policy), **settings}


def main(iterations: int = 2000, num_particles: int = 16, seeds: int = 3, out: Path | None = None) -> None:
    """Fit every target, print a table of medians over the seeds.

    Args:
        iterations: Updates of each fit.
        num_particles: Particles of the policy, K.
        seeds: Fits of each target.
        out: Also write a line of JSON a fit to this file.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    every, quoted, lines = [], [], []
    print("| target | τ | forward KL | reverse KL | W2 | its floor | modes | mass error | worst | s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for target in targets():
        rows = [fit(target, iterations, num_particles, seed) for seed in range(seeds)]
        lines += rows
        medians = {key: statistics.median(row[key] for row in rows) for key in FIGURES}
        cells = [target.name, f"{target.tau:g}", *(f"{medians[key]:.3f}" for key in FIGURES)]
        cells += ["–", "–", "–"]
        if target.modes is not None:
            errors = [row["mass_error"] for row in rows]
            found = min(row["modes_found"] for row in rows)
            cells[-3:] = [f"{found:.0%}", f"{statistics.median(errors):.3f}", f"{max(errors):.3f}"]
        print(f"| {' | '.join(cells)} | {statistics.median(row['fit_s'] for row in rows):.0f} |", flush=True)
        every.append(medians["forward_kl"])
        quoted += every[-1:] if target.quoted else []
    mean, over_all = statistics.mean(quoted), statistics.mean(every)
    print(f"mean forward KL: {mean:.3f} nat over six 2-D targets, {over_all:.3f} over all")
    if out is not None:
        write(out, lines)


if __name__ == "__main__":
    tyro.cli(main)
