"""Evaluation of any controller: mean return and success rate, with 95 % intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wpg.controllers.environment import Env, FloatArray, episode_seed, flatten_obs, make_env
from wpg.controllers.statistics import Interval, bootstrap_interval, wilson_interval

Act = Callable[[FloatArray], FloatArray]
"""From an observation (obs_dim,) to an action (action_dim,) in the environment's units. A goal
environment's observation is `[observation, desired_goal]`."""

EVALUATION_STREAM = 1


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a number of episodes showed."""

    env: str
    """Gymnasium id."""
    episodes: int
    """Number of episodes."""
    return_mean: float
    """Mean undiscounted return."""
    return_ci95: Interval
    """95 % percentile bootstrap interval of the mean return."""
    success_rate: float | None
    """Share of episodes whose last step had `info["is_success"]`; None where the environment has none."""
    success_ci95: Interval | None
    """95 % Wilson interval of the success rate."""
    returns: tuple[float, ...]
    """Return of each episode."""
    successes: tuple[bool, ...]
    """Success of each episode; empty where the environment reports none."""


def evaluate(act: Act, env: str | Env, episodes: int = 100, *, seed: int = 0) -> Evaluation:
    """Run `act` for whole episodes.

    Args:
        act: observation (obs_dim,) -> action (action_dim,), in the environment's units.
        env: Gymnasium id, or an environment; one given as an object stays open.
        episodes: number of episodes, at least 1.
        seed: episodes are reset with seeds derived from it, never those of training.

    Raises:
        ValueError: fewer than one episode.
        UnknownEnvError: no such environment.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    opened = make_env(env) if isinstance(env, str) else env
    try:
        outcomes = [_episode(act, opened, episode_seed(seed, EVALUATION_STREAM, i)) for i in range(episodes)]
    finally:
        if isinstance(env, str):
            opened.close()
    returns = np.array([outcome[0] for outcome in outcomes])
    successes = tuple(outcome[1] for outcome in outcomes if outcome[1] is not None)
    name = opened.spec.id if opened.spec is not None else type(opened.unwrapped).__name__
    return Evaluation(
        env=name,
        episodes=episodes,
        return_mean=float(returns.mean()),
        return_ci95=bootstrap_interval(returns),
        success_rate=sum(successes) / len(successes) if successes else None,
        success_ci95=wilson_interval(sum(successes), len(successes)) if successes else None,
        returns=tuple(returns.tolist()),
        successes=successes,
    )


def _episode(act: Act, env: Env, seed: int) -> tuple[float, bool | None]:
    """Return and, where reported, success of one episode."""
    obs, _ = env.reset(seed=seed)
    total, over, success = 0.0, False, None
    while not over:
        obs, reward, terminated, truncated, info = env.step(act(flatten_obs(obs)))
        total += float(reward)
        over = terminated or truncated
        if over and "is_success" in info:
            success = bool(info["is_success"])
    return total, success
