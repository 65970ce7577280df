"""Evaluation of a controller: mean return and success rate, with 95 % intervals."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from wpg.controllers.errors import FaultyEnvError
from wpg.controllers.experience.environment import (
    Env,
    FloatArray,
    env_name,
    episode_seed,
    flatten_obs,
    make_env,
    policy_view,
    success_of,
    time_limit,
)
from wpg.controllers.statistics import Interval, bootstrap_interval, wilson_interval

Act = Callable[[FloatArray], FloatArray]
"""From an observation (obs_dim,) to an action (action_dim,) in the environment's units. A goal
environment's observation is `[observation, desired_goal]`."""

EVALUATION_STREAM = 1
TRAINING_EVALUATION_STREAM = 2
"""Stream of seeds for the evaluations during training; the seeds also depend on the training step."""
MAX_EPISODE_STEPS = 100_000
"""An episode must end within this many steps, or within its time limit if that is longer."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of a number of episodes."""

    env: str
    """Gymnasium id."""
    episodes: int
    """Number of episodes."""
    return_mean: float
    """Mean undiscounted return."""
    return_ci95: Interval
    """95 % percentile bootstrap interval of the mean return."""
    success_rate: float | None
    """Share of episodes whose last step had a true `info["is_success"]`, or `info["success"]` if there is no
    such entry; None if no episode reported it."""
    success_ci95: Interval | None
    """95 % Wilson interval of the success rate."""
    returns: tuple[float, ...]
    """Return of each episode."""
    successes: tuple[bool, ...]
    """Success of each episode; empty if none reported it. If only some did, the others count as failures."""


class LastEvaluation(NamedTuple):
    """Results of a run's last evaluation; None if there was none."""

    return_mean: float | None = None
    success_rate: float | None = None


def evaluate(act: Act, env: str | Env, episodes: int = 100, *, seed: int = 0) -> Evaluation:
    """Run `act` for whole episodes.

    The observation is that of training: Dict and Tuple observations are flattened, and where `observation` of
    a goal environment does not contain the achieved goal, it is appended.

    Args:
        act: observation (obs_dim,) -> action (action_dim,), in the environment's units.
        env: Gymnasium id, or an environment object, which stays open.
        episodes: number of episodes, at least 1.
        seed: the episodes' resets are seeded from it. The seeds differ from those of training and of the
            evaluations during training.

    Raises:
        ValueError: fewer than one episode.
        UnknownEnvError: no such environment.
        FaultyEnvError: a reward or an observation is not finite; or an episode of an environment without a
            time limit did not end within 100,000 steps.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    seeds = [episode_seed(seed, EVALUATION_STREAM, index) for index in range(episodes)]
    if not isinstance(env, str):
        return run_episodes(act, policy_view(env), seeds)
    with closing(make_env(env)) as opened:
        return run_episodes(act, policy_view(opened), seeds)


def run_episodes(act: Act, env: Env, seeds: Sequence[int]) -> Evaluation:
    """Run `act` for one episode with each of these seeds.

    Raises:
        FaultyEnvError: a reward or an observation is not finite, or an episode does not end.
    """
    outcomes = [_episode(act, env, seed) for seed in seeds]
    returns = np.array([total for total, _ in outcomes])
    reported = any(success is not None for _, success in outcomes)
    successes = tuple(bool(success) for _, success in outcomes) if reported else ()
    return Evaluation(
        env=env_name(env),
        episodes=len(seeds),
        return_mean=float(returns.mean()),
        return_ci95=bootstrap_interval(returns),
        success_rate=sum(successes) / len(successes) if successes else None,
        success_ci95=wilson_interval(sum(successes), len(successes)) if successes else None,
        returns=tuple(returns.tolist()),
        successes=successes,
    )


def _episode(act: Act, env: Env, seed: int) -> tuple[float, bool | None]:
    """Return and success of one episode; the success is None if it was not reported."""
    total = 0.0
    for moment in play(lambda obs: act(flatten_obs(obs)), env, seed):
        total += moment.reward
    return total, success_of(moment.info)


class Moment(NamedTuple):
    """What an environment returned from a reset or a step."""

    obs: Any
    reward: float
    """0 after a reset."""
    terminated: bool
    info: dict[str, Any]


def play(choose: Callable[[Any], FloatArray], env: Env, seed: int) -> Iterator[Moment]:
    """Play one episode, and yield a moment after its reset and after each of its steps.

    Args:
        choose: from the environment's own observation to an action in its units.
        env: the environment.
        seed: of the reset.

    Raises:
        FaultyEnvError: a reward or an observation is not finite; or the episode does not end within 100,000
            steps, or its time limit if that is longer.
    """
    obs, info = env.reset(seed=seed)
    yield _finite(Moment(obs, 0.0, False, info), env, seed, 0)
    limit = max(time_limit(env) or 0, MAX_EPISODE_STEPS)
    for number in range(1, limit + 1):
        obs, reward, terminated, truncated, info = env.step(choose(obs))
        yield _finite(Moment(obs, float(reward), bool(terminated), info), env, seed, number)
        if terminated or truncated:
            return
    raise FaultyEnvError(
        f"{env_name(env)}: an episode did not end within {limit:,} steps; make the environment with "
        "max_episode_steps, or wrap it in gymnasium.wrappers.TimeLimit"
    )


def _finite(moment: Moment, env: Env, seed: int, steps: int) -> Moment:
    """The moment after so many steps, if its numbers are finite."""
    parts = moment.obs if isinstance(moment.obs, dict) else {"observation": moment.obs}
    for name, values in {"reward": moment.reward, **parts}.items():
        if not np.isfinite(values).all():
            raise FaultyEnvError(
                f"{env_name(env)}: expected finite numbers, found {name} {values} after {steps} steps of the "
                f"episode with seed {seed}"
            )
    return moment
