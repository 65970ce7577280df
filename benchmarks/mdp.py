"""Measures the learner's errors in soft Q-function and policy on a decision process that is solved on a grid.

The process has one state dimension on a circle, one action dimension, and three modes of unequal reward that
shift with the state. Soft value iteration on the grid gives `Q*_τ` and the Gibbs policy to rounding. The
learner sees transitions of uniform states and actions, at a fixed temperature.

    python benchmarks/mdp.py --out benchmarks/results/mdp.jsonl
"""

import math
from pathlib import Path

import torch
import tyro
from rows import write
from torch import Tensor

from wpg.controllers.algorithm import flow
from wpg.controllers.algorithm.batch import Batch
from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.algorithm.policy import ParticlePolicy, inverse_tanh
from wpg.controllers.algorithm.settings import LearnerSettings

GAMMA = 0.9
STATES, ACTIONS = 48, 200
STEP = 0.06
"""Largest move of the state in a step, in turns of the circle."""
STATE_GRID = torch.arange(STATES) / STATES
ACTION_GRID = (torch.arange(ACTIONS) + 0.5) / ACTIONS * 2 - 1
CELL = 2 / ACTIONS


def reward(state: Tensor, action: Tensor) -> Tensor:
    """Three bumps over the action, whose heights and places turn with the state."""
    turn = 2 * math.pi * state
    centres = torch.stack(
        [-0.65 + 0.1 * torch.sin(turn), 0.05 * torch.cos(turn), 0.65 + 0.1 * torch.cos(turn)], -1
    )
    heights = torch.stack([1 + 0.3 * torch.cos(turn), 0.8 + 0 * turn, 1 + 0.3 * torch.sin(turn)], -1)
    return (heights * torch.exp(-((action.unsqueeze(-1) - centres) ** 2) / (2 * 0.15**2))).sum(-1)


def successor(state: Tensor, action: Tensor) -> Tensor:
    """The next state, in [0, 1)."""
    return (state + STEP * action) % 1.0


def observe(state: Tensor) -> Tensor:
    """The state as the networks see it, (..., 2)."""
    return torch.stack([torch.cos(2 * math.pi * state), torch.sin(2 * math.pi * state)], -1)


def look_up(values: Tensor) -> Tensor:
    """Values (S,) of the grid's states at the successors of every state and action, (S, A)."""
    place = successor(STATE_GRID[:, None], ACTION_GRID[None]) * STATES
    low = place.floor().long()
    share = place - low
    return (1 - share) * values[low % STATES] + share * values[(low + 1) % STATES]


REWARD_GRID = reward(STATE_GRID[:, None].expand(-1, ACTIONS), ACTION_GRID[None].expand(STATES, -1))


def solve(tau: float) -> tuple[Tensor, Tensor]:
    """`Q*_τ` (S, A) and the log density of the Gibbs policy (S, A), by soft value iteration."""
    q = torch.zeros(STATES, ACTIONS)
    for _ in range(400):
        value = tau * ((q / tau).logsumexp(1) + math.log(CELL))
        q = REWARD_GRID + GAMMA * look_up(value)
    scaled = q / tau
    return q, scaled - scaled.logsumexp(1, keepdim=True) - math.log(CELL)


def evaluate(log_density: Tensor, tau: float, sweeps: int = 300) -> tuple[Tensor, Tensor]:
    """`Q^π_τ` (S, A) and `V^π_τ` (S,) of a policy given by its log density (S, A), by iteration."""
    density = log_density.exp() * CELL
    density = density / density.sum(1, keepdim=True)
    q = torch.zeros(STATES, ACTIONS)
    value = torch.zeros(STATES)
    for _ in range(sweeps):
        value = (density * (q - tau * log_density)).sum(1)
        q = REWARD_GRID + GAMMA * look_up(value)
    return q, value


def divergence(first: Tensor, second: Tensor) -> float:
    """Mean over the states of `KL(first ‖ second)`, of log densities (S, A)."""
    return ((first.exp() * (first - second)).sum(1) * CELL).mean().item()


class Trial:
    """The learner of `wpg`, fed with transitions of the process."""

    def __init__(self, *, num_particles: int, tau: float, seed: int, updates: int) -> None:
        self.tau, self.updates = tau, updates
        self.generator = torch.Generator().manual_seed(seed)
        nets = {"hidden": 128, "generator": self.generator}
        settings = LearnerSettings(
            gamma=GAMMA,
            learning_rate=2e-3,
            policy_delay=1,
            initial_tau=tau,
            target_entropy=-1.0,
            norm_warmup=updates // 4,
        )
        policy, critic = ParticlePolicy(2, 1, num_particles=num_particles, **nets), Critic(2, 1, **nets)
        self.learner = Learner(policy, critic, settings, generator=self.generator)

    def step(self, index: int) -> None:
        """One update, at a step size that falls to 2 %."""
        self.learner.set_learning_rate(2e-3 * (1 - 0.98 * index / self.updates))
        state = torch.rand(256, generator=self.generator)
        action = torch.rand(256, generator=self.generator) * 2 - 1
        ended = torch.zeros(256)
        next_obs = observe(successor(state, action))
        self.learner.update(Batch(observe(state), action[:, None], reward(state, action), ended, next_obs))
        self.learner.wait_for_actor().log_tau.fill_(math.log(self.tau))  # the temperature is given

    @torch.no_grad()
    def log_density(self) -> Tensor:
        """The policy on the grid, (S, A)."""
        mixture = self.learner.wait_for_actor().policy(observe(STATE_GRID))
        u = inverse_tanh(ACTION_GRID)
        columns = [flow.log_density(u[i].expand(STATES, 1), mixture) for i in range(ACTIONS)]
        return torch.stack(columns, 1)

    @torch.no_grad()
    def q(self) -> Tensor:
        """Mean of the critics on the grid, (S, A)."""
        obs = observe(STATE_GRID).repeat_interleave(ACTIONS, 0)
        return self.learner.critic(obs, ACTION_GRID.repeat(STATES)[:, None]).mean(0).view(STATES, ACTIONS)


def main(
    updates: int = 5000,
    seeds: int = 2,
    tau: float = 0.1,
    particles: tuple[int, ...] = (1, 8, 16),
    out: Path | None = None,
) -> None:
    """Train on the process and print the errors.

    Args:
        updates: Updates of each training.
        seeds: Number of seeds, counted from 0.
        tau: Temperature.
        particles: Numbers of particles; 1 is the Gaussian projection.
        out: Also write one line of JSON for each training to this file.
    """
    torch.set_num_threads(1)
    best_q, gibbs = solve(tau)
    _, best_value = evaluate(gibbs, tau)
    rows = []
    print(f"standard deviation of Q*: {best_q.std():.3f}")
    print("| particles | seed | soft-Q RMSE / std | KL(Gibbs ‖ policy) | KL(policy ‖ Gibbs) | value gap |")
    print("|---|---|---|---|---|---|")
    for num_particles in particles:
        for seed in range(seeds):
            trial = Trial(num_particles=num_particles, tau=tau, seed=seed, updates=updates)
            for index in range(updates):
                trial.step(index)
            log_density = trial.log_density()
            _, value = evaluate(log_density, tau)
            row = {
                "particles": num_particles,
                "seed": seed,
                "q_rmse_over_std": ((trial.q() - best_q).square().mean().sqrt() / best_q.std()).item(),
                "forward_kl": divergence(gibbs, log_density),
                "reverse_kl": divergence(log_density, gibbs),
                "value_gap": (best_value - value).mean().item(),
            }
            rows.append(row)
            figures = " | ".join(f"{value:.3f}" for value in list(row.values())[2:])
            print(f"| {num_particles} | {seed} | {figures} |", flush=True)
    if out is not None:
        settings = {"updates": updates, "tau": tau}
        write(out, (row | settings for row in rows))


if __name__ == "__main__":
    tyro.cli(main)
