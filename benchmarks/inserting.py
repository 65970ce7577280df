"""Measures inserting over the bridge, with one run for each hole; its place follows from the emulator's seed.

    wpg demonstrate wpg/PandaInsert-v0 --episodes 200 --out inserting.npz
    wpg train wpg/PandaInsert-v0 --demonstrations inserting.npz --out runs/insert
    python benchmarks/inserting.py runs/insert/policy.onnx --holes 20 --out inserting.jsonl

An emulated Panda holds a peg before a block in one process, and `wpg run` commands it from another over UDP.
The run is given the place of the hole, as after a measurement; the block does not move.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

import tyro
from rows import append
from wpg_process import emulated, run_command

from wpg.controllers.statistics import wilson_interval


def main(
    policy: tyro.conf.Positional[Path],
    *,
    holes: int = 20,
    engine: Literal["mujoco", "pybullet"] = "mujoco",
    out: Path | None = None,
) -> None:
    """Print how many pegs went in, with what both ends counted.

    Args:
        policy: An exported policy.
        holes: Number of holes.
        engine: Physics of the emulated arm.
        out: Also append one line of JSON for each hole to this file.
    """
    rows = []
    for seed in range(holes):
        rows.append({"engine": engine, "seed": seed} | inserted(policy, engine, seed))
        print(json.dumps(rows[-1]), flush=True)
        if out is not None:
            append(out, rows[-1])
    successes = sum(row["success"] for row in rows)
    low, high = wilson_interval(successes, holes)
    print(f"{successes} of {holes} holes ({low:.0%} to {high:.0%})")
    print(f"median error {statistics.median(row['error_mm'] for row in rows):.1f} mm")
    for name in ("limit_violations", "missed_deadlines", "safety_events"):
        print(f"{name}: {sum(row[name] for row in rows)}")


def inserted(policy: Path, engine: str, seed: int) -> dict[str, Any]:
    """One peg into one hole."""
    with tempfile.TemporaryDirectory() as folder:
        seen, result = Path(folder) / "seen.json", Path(folder) / "result.json"
        scene = ["--task", "PandaInsert", "--engine", engine, "--seed", str(seed), "--json", seen]
        with emulated("panda", "--link", "udp://127.0.0.1:0", *scene) as arm:
            goal = map(str, arm.hello["goal"])
            run = ["run", policy, "--robot", "panda", "--link", arm.link, "--goal", *goal, "--json", result]
            run_command(*run, check=False, quiet=True)
        report, witness = json.loads(result.read_text()), json.loads(seen.read_text())
    (found,) = report["goal_results"]
    return {
        "success": found["reached"],
        "error_mm": round(1e3 * found["error_m"], 2),
        "end_reason": report["end_reason"],
        "limit_violations": report["limit_violations"] + witness["commands_outside_limits"],
        "missed_deadlines": report["missed_deadlines"],
        "safety_events": sum(report["safety_events"].values()),
    }


if __name__ == "__main__":
    tyro.cli(main)
