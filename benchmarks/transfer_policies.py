"""Policies of varied quality for the transfer benchmark: few runs, each exported at several ages.

    python benchmarks/transfer_policies.py --out runs/transfer_policies

Every run learns reach on the plain simulator and is exported at each of `AGES`; young ones fail most goals.
Some are exported a second time to act by a sampled instead of the best particle, which is worse.
"""

from pathlib import Path

import tyro

from wpg.cli.artifacts import ExportOptions, export_run
from wpg.controllers import TrainConfig, resume, train
from wpg.export.options import SamplerOptions

ENV = "wpg/PandaReach-v0"
AGES = (4000, 5000, 6500, 8000, 9000, 10_000, 12_000, 16_000, 24_000)
SAMPLED_AGES = (10_000, 16_000, 24_000)
SAMPLED = ExportOptions(sampler=SamplerOptions(choice="sample", noise_scale=2.0))


def main(out: Path, seeds: int = 3) -> None:
    """Train and export; a file that exists is left as it is.

    Args:
        out: Folder of the policies, and of the runs that they come from.
        seeds: Runs, seeded from 0.
    """
    for seed in range(seeds):
        folder = out / f"run{seed}"
        for age in AGES:
            name = f"seed{seed}-{age:05d}"
            if (out / f"{name}.onnx").exists():
                continue
            if folder.exists():
                resume(folder, steps=age)
            else:
                train(TrainConfig(env=ENV, steps=age, seed=seed, eval_period=0), out=folder)
            if age in SAMPLED_AGES:
                export_run(folder, out / f"{name}-sampled.onnx", SAMPLED)
            export_run(folder, out / f"{name}.onnx")
            print(name, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
