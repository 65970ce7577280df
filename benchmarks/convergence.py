"""Shows global convergence: of the theory's flow, of its discretisation, and of the learner.

On the decision process of `mdp.py`, three things are run:

- The Wasserstein gradient flow itself, `∂_t π = −∂_a(π ∂_a Q^π) + τ ∂_a² π` (arXiv 2605.26078), on the grid.
  It starts from the uniform policy, and the soft value of the policy is solved anew at every step. For each
  of several temperatures its optimality gap falls geometrically, and the rate is fitted.
- The same flow as Langevin particles with a step size, from the Gibbs policy. It shows the bias of the step.
- The learner of `wpg` with 16 particles, and with 1, which is the projection on Gaussians.

    python benchmarks/convergence.py --figure docs/images/convergence.png
"""

import json
import math
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import tyro
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import mdp

mpl.use("agg")
import matplotlib.pyplot as plt


def flow_of_densities(tau: float, *, time: float, records: int) -> list[tuple[float, float, float]]:
    """(time, value gap, KL to the Gibbs policy) along the flow.

    Semi-implicit finite volumes: over one step the drift of the current soft value holds, and the linear
    Fokker–Planck equation is solved exactly by the exponential of its generator (no flux at the edges).
    """
    _, gibbs = mdp.solve(tau)
    _, best = mdp.evaluate(gibbs, tau)
    log_density = torch.full((mdp.STATES, mdp.ACTIONS), -math.log(2.0))
    found = []
    step = time / records
    for record in range(records + 1):
        q, value = mdp.evaluate(log_density, tau, sweeps=150)
        gap = (best - value).mean().item()
        found.append((record * step, gap, mdp.divergence(log_density, gibbs)))
        mass = torch.matmul(
            log_density.exp().unsqueeze(1).double(), torch.matrix_exp(generator(q, tau) * step)
        )
        log_density = mass.squeeze(1).clamp_min(1e-30).log().float()
    return found


def generator(q: Tensor, tau: float) -> Tensor:
    """Rates (S, A, A) of hops between neighbouring cells, whose stationary law is `exp(q/τ)`.

    A row's hops are `τ/δ² exp(±Δq/2τ)`: detailed balance holds exactly on the grid.
    """
    difference = (q[:, 1:] - q[:, :-1]).double() / (2 * tau)
    base = tau / mdp.CELL**2
    up, down = base * difference.exp(), base * (-difference).exp()
    rates = torch.diag_embed(up, 1) + torch.diag_embed(down, -1)
    return rates - torch.diag_embed(rates.sum(2))


def langevin(tau: float, step_size: float, *, time: float, particles: int, seed: int) -> float:
    """KL to the Gibbs policy of Langevin particles that begin in it: what the step size alone does.

    Measured on the particles of the last three quarters together.
    """
    _, gibbs = mdp.solve(tau)
    random = torch.Generator().manual_seed(seed)
    cells = torch.multinomial(gibbs.exp(), particles, replacement=True, generator=random)
    a = mdp.ACTION_GRID[cells]
    steps = round(time / step_size)
    settled = torch.zeros(mdp.STATES, mdp.ACTIONS)
    every = max(round(0.05 / step_size), 1)  # the soft value follows at its own, slower pace
    slope = torch.zeros(mdp.STATES, mdp.ACTIONS)
    for index in range(steps):
        if index % every == 0:
            q, _ = mdp.evaluate(histogram(a).clamp_min(1e-4).log(), tau, sweeps=100)
            slope = torch.gradient(q, spacing=mdp.CELL, dim=1)[0]
        cells = ((a + 1) / mdp.CELL).long().clamp(0, mdp.ACTIONS - 1)
        noise = torch.randn(a.shape, generator=random)
        a = a + step_size * slope.gather(1, cells) + math.sqrt(2 * tau * step_size) * noise
        a = 1 - (1 - (a + 1).remainder(4) + 1).abs()  # reflected at both edges
        if index >= 0.25 * steps:
            settled += histogram(a)
    density = settled / (settled.sum(1, keepdim=True) * mdp.CELL)
    return mdp.divergence(density.clamp_min(1e-8).log(), gibbs)


def histogram(a: Tensor) -> Tensor:
    """Density of particles (S, N) on the grid, (S, A)."""
    cells = ((a + 1) / mdp.CELL).long().clamp(0, mdp.ACTIONS - 1)
    counts = torch.zeros(mdp.STATES, mdp.ACTIONS).scatter_add_(1, cells, torch.ones_like(a))
    return counts / (a.shape[1] * mdp.CELL)


def practical(
    num_particles: int, tau: float, *, updates: int, records: int
) -> list[tuple[int, float, float]]:
    """(updates, value gap, KL of the policy to the Gibbs policy) of the learner."""
    _, gibbs = mdp.solve(tau)
    _, best = mdp.evaluate(gibbs, tau)
    trial = mdp.Trial(num_particles=num_particles, tau=tau, seed=0, updates=updates)
    found = []
    for index in range(updates + 1):
        if index % (updates // records) == 0:
            log_density = trial.log_density()
            _, value = mdp.evaluate(log_density, tau)
            found.append((index, (best - value).mean().item(), mdp.divergence(log_density, gibbs)))
        if index < updates:
            trial.step(index)
    return found


def fitted_rate(curve: list[tuple[float, float, float]]) -> float:
    """Rate of the geometric fall, by least squares where the gap lies between 30 % and 0.1 % of its start."""
    times, gaps = np.array(curve)[:, 0], np.array(curve)[:, 1]
    inside = (gaps < 0.3 * gaps[0]) & (gaps > max(1e-3 * gaps[0], 1e-4))
    return -float(np.polyfit(times[inside], np.log(gaps[inside]), 1)[0])


def draw(results: dict, figure: Path) -> None:
    """Value gap of flow and learner, and the floor against the step size."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for run in results["flow"]:
        times, gaps = zip(*[(t, gap) for t, gap, _ in run["curve"] if gap > 1e-5], strict=True)
        left.semilogy(times, gaps, label=f"τ = {run['tau']:g}, rate {run['rate']:.2f}")
    left.set(
        xlabel="time of the flow",
        ylabel="soft value below the optimum",
        title="The flow: geometric convergence",
    )
    for run in results["langevin"]:
        steps, floors = zip(*run["floor"], strict=True)
        middle.loglog(steps, floors, "o-", label=f"τ = {run['tau']:g}")
    middle.set(
        xlabel="step size", ylabel="KL to the Gibbs policy, nat", title="Langevin particles: the step's bias"
    )
    for run in results["practical"]:
        updates, gaps = zip(*[(u, gap) for u, gap, _ in run["curve"] if gap > 0], strict=True)
        name = "Gaussian (K = 1)" if run["particles"] == 1 else f"K = {run['particles']} particles"
        right.semilogy(updates, gaps, label=name)
    right.set(xlabel="updates", ylabel="soft value below the optimum", title="What trains, τ = 0.1")
    for axes in (left, middle, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(figure, dpi=110)


def main(
    taus: tuple[float, ...] = (0.15, 0.3, 0.6),
    step_sizes: tuple[float, ...] = (0.001, 0.004, 0.016, 0.064),
    updates: int = 4000,
    out: Path | None = None,
    figure: Path | None = None,
) -> None:
    """Run all three and print rates and floors.

    Args:
        taus: Temperatures of the flow.
        step_sizes: Step sizes of the Langevin particles.
        updates: Updates of the learner.
        out: Write the curves to this file of JSON.
        figure: Draw them to this file.
    """
    torch.set_num_threads(1)
    results: dict[str, list] = {"flow": [], "langevin": [], "practical": []}
    print(
        "| τ | rate of the flow | " + " | ".join(f"KL floor at step {size:g}" for size in step_sizes) + " |"
    )
    print("|---|" + "---|" * (len(step_sizes) + 1))
    for tau in taus:
        curve = flow_of_densities(tau, time=12.0, records=60)
        floor = [(size, langevin(tau, size, time=2.0, particles=2000, seed=0)) for size in step_sizes]
        results["flow"].append({"tau": tau, "rate": fitted_rate(curve), "curve": curve})
        results["langevin"].append({"tau": tau, "floor": floor})
        cells = " | ".join(f"{value:.4f}" for _, value in floor)
        print(f"| {tau:g} | {results['flow'][-1]['rate']:.3f} | {cells} |", flush=True)
    for num_particles in (1, 16):
        curve = practical(num_particles, 0.1, updates=updates, records=20)
        results["practical"].append({"particles": num_particles, "curve": curve})
        print(
            f"learner, K = {num_particles}: value gap {curve[-1][1]:.4f}, KL {curve[-1][2]:.3f}", flush=True
        )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results))
    if figure is not None:
        draw(results, figure)


if __name__ == "__main__":
    tyro.cli(main)
