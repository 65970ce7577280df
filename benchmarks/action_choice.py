"""Measures what refinement and the rule that chooses the action are worth, by success and return.

    python benchmarks/action_choice.py --run FOLDER [--episodes 100] [--json FILE]

All lines use the same episodes, so that ``gain``, the return beyond that of the first line, is a mean of
paired differences. ``noise`` is the factor on the sampler's noise. ``change`` is the mean distance between
the actions of successive steps, in [-1, 1] for each joint; it is large for an arm that chatters.
"""

import json
import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import tyro
from gymnasium.spaces import Box

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.cli.acting import FreshEpisodes
from wpg.controllers import evaluate, load_run
from wpg.controllers.statistics import bootstrap_interval
from wpg.export import Artifact, ExportOptions, SamplerOptions, export_run, load_artifact
from wpg.export.contract import ActionChoice


class Acting:
    """An artifact as a controller that notes how much its actions change."""

    def __init__(self, artifact: Artifact, num_particles: int, noise_scale: float, space: Box) -> None:
        self._sampler = artifact.sampler(num_particles)
        self._noise_scale = np.full(self._sampler.noise_shape[1], noise_scale, np.float32)
        if artifact.contract.sampler.choice == "sample":
            self._noise_scale[-1] = 1.0  # the random number of the choice `sample`
        self._rng = np.random.default_rng(0)
        term = artifact.contract.interface.action
        self._scale, self._offset = np.array(term.scale), np.array(term.offset)
        self._half, self._middle = (space.high - space.low) / 2, (space.high + space.low) / 2
        self.changes: list[float] = []
        self.reset()

    def reset(self) -> None:
        """Begin an episode: no action has been chosen yet."""
        self._sampler.reset()
        self._last = np.full(len(self._scale), np.nan)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Action in the environment's units."""
        noise = self._rng.standard_normal(self._sampler.noise_shape, dtype=np.float32) * self._noise_scale
        a = (self._sampler.draw(obs, noise).action - self._offset) / self._scale
        self.changes.append(float(np.linalg.norm(a - self._last)))
        self._last = a
        return (self._middle + self._half * np.clip(a, -1, 1)).astype(np.float32)


def line(row: dict[str, Any], first: dict[str, Any]) -> str:
    """One line of the table."""
    success = "" if row["success_rate"] is None else f"{row['success_rate']:.2f}"
    gain = np.array(row["returns"]) - np.array(first["returns"])
    low, high = bootstrap_interval(gain)
    return (
        f"| {row['M']} | {row['choice']} | {row['K']} | {row['noise']:g} | {success} "
        f"| {row['return_mean']:.2f} | {gain.mean():+.2f} | {low:+.2f} to {high:+.2f} | {row['change']:.2f} |"
    )


def main(
    *,
    run: Path,
    episodes: int = 100,
    particles: tuple[int, ...] = (16, 1, 8, 32),
    refine: tuple[int, ...] = (0, 1, 4),
    choices: tuple[str, ...] = tuple(get_args(ActionChoice)),
    noise_scales: tuple[float, ...] = (0.5, 0.0),
    step_size: float = 0.05,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the table as Markdown.

    Args:
        run: Run folder of `wpg train`.
        episodes: Episodes of each line.
        particles: Numbers of particles K.
        refine: Numbers of refinement steps M.
        choices: Rules that choose the action.
        noise_scales: Further factors on the noise, for the first K without refinement.
        step_size: Step size of the refinement.
        json_file: Also write the lines to this file.
    """
    trained = load_run(run)
    env = trained.make_env()
    assert isinstance(env.action_space, Box)
    print("| M | choice | K | noise | success | return | gain | 95 % | change |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for steps, choice in product(refine, choices):
            sampler = SamplerOptions(refinement_steps=steps, step_size=step_size, choice=choice)
            exported = export_run(run, Path(folder) / "policy.onnx", ExportOptions(sampler=sampler))
            artifact = load_artifact(exported)
            counts = particles
            scaled = [(counts[0], scale) for scale in noise_scales] if steps == 0 else []
            for num_particles, scale in [*product(counts, [1.0]), *scaled]:
                if choice == "sample" and num_particles % artifact.contract.sampler.num_components:
                    continue
                acting = Acting(artifact, num_particles, scale, env.action_space)
                found = evaluate(acting, FreshEpisodes(env, acting), episodes, seed=10_000)
                rows.append(
                    {
                        "M": steps,
                        "choice": choice,
                        "K": num_particles,
                        "noise": scale,
                        "change": float(np.nanmean(acting.changes)),
                        **asdict(found),
                    }
                )
                print(line(rows[-1], rows[0]), flush=True)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
