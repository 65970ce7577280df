"""Compares a training that is killed and resumed again and again with one that never is.

Both trainings run the same settings in separate processes. The second is killed (SIGKILL) at random moments,
in the middle of whatever it does, and resumed from its last checkpoint, until it is done. Its metrics,
without timings, and its last checkpoint must equal those of the first training, bit for bit.

    python benchmarks/kills.py --kills 20
"""

import csv
import random
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import tyro
from safetensors.torch import load_file
from wpg_process import WPG, run_command

ENV = "wpg/PandaReach-v0"
TIMINGS = ("seconds", "steps_per_s")


def metrics(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without timings."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMINGS} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The whole content of the checkpoint."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted((folder / "checkpoint").rglob("*.safetensors")):
        found |= load_file(path)
    return found


def killed(
    start: list[str], resume: list[str], folder: Path, *, kills: int, longest_s: float, seed: int
) -> int:
    """Run these `wpg` commands to the end with that many kills; returns how often training began anew."""
    moments = random.Random(seed)
    anew = 0
    for number in range(kills):
        begun = (folder / "checkpoint").exists()
        if not begun and folder.exists():
            anew += 1
            subprocess.run(["rm", "-r", str(folder)], check=True)
        process = subprocess.Popen([*WPG, *(resume if begun else start)], stdout=subprocess.DEVNULL)
        wait_s = moments.uniform(3.0, longest_s)
        time.sleep(wait_s)
        process.kill()
        process.wait()
        print(f"kill {number + 1} after {wait_s:.1f} s", flush=True)
    run_command(*(resume if (folder / "checkpoint").exists() else start), quiet=True)
    return anew


def main(kills: int = 20, steps: int = 12_000, longest_s: float = 8.0, seed: int = 0) -> None:
    """Train twice and compare.

    Args:
        kills: How often the second training is killed.
        steps: Environment steps.
        longest_s: A process lives for 3 s to this long.
        seed: Seed of the moments.
    """
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        settings = (ENV, "--steps", str(steps))
        run_command("train", *settings, "--out", whole, quiet=True)
        start = ["train", *settings, "--out", str(broken)]
        resume = ["train", "--resume", str(broken)]
        anew = killed(start, resume, broken, kills=kills, longest_s=longest_s, seed=seed)
        first, second = weights(whole), weights(broken)
        same_rows = metrics(whole) == metrics(broken)
        unequal = [key for key in first.keys() | second.keys() if not torch.equal(first[key], second[key])]
        print(f"{kills} kills, {anew} before the first checkpoint")
        print(f"{len(metrics(whole))} rows of metrics: {'equal' if same_rows else 'NOT equal'}")
        print(
            f"{len(first)} tensors of the checkpoint: {len(first) - len(unequal)} equal, {len(unequal)} not"
        )
        if unequal or not same_rows:
            raise SystemExit(1)


if __name__ == "__main__":
    tyro.cli(main)
