"""Trains policies of varied quality for the transfer benchmark: a few runs, each exported at several ages.

    python benchmarks/transfer_policies.py --out runs/transfer_policies

Every run learns reach in MuJoCo and is exported at each of its family's ages; young ones fail most goals.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from wpg.controllers import TrainConfig, resume, train
from wpg.export import export_run

ENV = "wpg/PandaReach-v0"
DELAYS_S = (0.0, 0.12)
"""Those of the hidden robots."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Runs that differ by their seed."""

    ages: tuple[int, ...]
    """Environment steps after which a run is exported."""
    seeds: tuple[int, ...] = (0,)
    env_kwargs: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "joints": Family(ages=(4000, 6000, 8000, 10_000, 14_000, 24_000), seeds=(0, 1)),
    "tool": Family(ages=(2000, 4000, 6000, 9000, 12_000), env_kwargs={"control": "tool"}),
    "late": Family(
        ages=(6000, 9000, 12_000, 16_000, 20_000, 28_000, 40_000),
        env_kwargs={"effects": {"action_delay_s": list(DELAYS_S)}},
    ),
}
"""Of the unfitted simulator, moving the joints or the tool; and of arms that answer late, which see where
they were sent."""


def main(out: Path) -> None:
    """Train and export; a file that exists is left as it is.

    Args:
        out: Folder of the policies, and of the runs that they come from.
    """
    for name, family in FAMILIES.items():
        for seed in family.seeds:
            folder = out / f"{name}{seed}"
            config = TrainConfig(
                env=ENV,
                env_kwargs=family.env_kwargs,
                steps=family.ages[0],
                decay_steps=family.ages[-1],
                seed=seed,
                eval_period=0,
            )
            for age in family.ages:
                exported = out / f"{name}{seed}-{age:05d}.onnx"
                if exported.exists():
                    continue
                if folder.exists():
                    resume(folder, steps=age)
                else:
                    train(config, out=folder)
                export_run(folder, exported)
                print(exported.stem, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
