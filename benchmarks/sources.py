"""Measures success of pushing or picking over the bridge, by how well the cube is seen, and in simulation.

    wpg train wpg/PandaPush-v0 --seed 0 --out runs/push
    python benchmarks/sources.py runs/push/policy.onnx --out benchmarks/results/sources.jsonl
    python benchmarks/sources.py runs/pick/policy.onnx --task PandaPickAndPlace --goals 20 --episodes 100
        --only simulation good ordinary --out benchmarks/results/picking.jsonl

One process emulates a Panda at its table, `wpg run` is another, and poses and commands travel over UDP.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rows import append
from wpg_process import emulated, run_command

from wpg.controllers.statistics import wilson_interval

CAMERAS = {
    "ideal": "rate_hz=200,delay_ms=0",
    "good": "rate_hz=60,delay_ms=20,noise_mm=0.5,noise_deg=0.5",
    "ordinary": "rate_hz=30,delay_ms=40,noise_mm=1,noise_deg=1,drop=0.05",
    "poor": "rate_hz=15,delay_ms=80,noise_mm=3,noise_deg=3,drop=0.1",
    "ordinary, covered for 0.6 s": "rate_hz=30,delay_ms=40,noise_mm=1,noise_deg=1,drop=0.05,"
    "hidden_after_s=30,hidden_for_s=0.6",
}
"""How the cube is seen, from a laboratory's tracker to a cheap camera in bad light."""


def main() -> None:
    """Simulation first, then every camera; a line of JSON each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("policy", type=Path)
    parser.add_argument("--task", choices=["PandaPush", "PandaPickAndPlace"], default="PandaPush")
    parser.add_argument("--goals", type=int, default=40)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=None, help="of the cameras, and simulation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cameras = {name: spec for name, spec in CAMERAS.items() if options.only is None or name in options.only}
    if options.only is None or "simulation" in options.only:
        add(options.out, {"task": options.task, "camera": "none: simulation", **simulated(options)})
    for name, spec in cameras.items():
        add(options.out, {"task": options.task, "camera": name, "spec": spec, **played(options, spec)})


def add(out: Path, row: dict[str, Any]) -> None:
    """Write a line, and show it."""
    row = {"benchmark": "sources", "time": time.strftime("%Y-%m-%d"), **row}
    if row["goals"]:
        low, high = wilson_interval(row["successes"], row["goals"])
        row["success_ci95"] = [round(low, 4), round(high, 4)]
    print(json.dumps(row), flush=True)
    append(out, row)


def simulated(options: argparse.Namespace) -> dict[str, Any]:
    """Success in the simulator that the policy was trained in."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        episodes = ["--episodes", str(options.episodes), "--json", result]
        run_command("evaluate", options.policy, *episodes, quiet=True)
        found = json.loads(result.read_text())
    return {
        "goals": options.episodes,
        "successes": round(found["success_rate"] * options.episodes),
    }


def played(options: argparse.Namespace, camera: str) -> dict[str, Any]:
    """Success over the bridge, with what both ends saw."""
    with tempfile.TemporaryDirectory() as folder:
        seen, result, log = (Path(folder) / name for name in ("seen.json", "result.json", "run.mcap"))
        scene = ["--task", options.task, "--camera", camera, "--seed", str(options.seed)]
        with emulated("panda", "--link", "udp://127.0.0.1:0", *scene, "--json", seen) as arm:
            run = ["run", options.policy, "--robot", "panda", "--link", arm.link]
            run += ["--source", f"{','.join(arm.hello['terms'])}={arm.hello['source']}", "--put-back", "wait"]
            run += ["--goals", str(options.goals), "--seed", str(options.seed)]
            run_command(*run, "--log", log, "--json", result, check=False, quiet=True)
            replayed = run_command("replay", log, check=False, quiet=True)
        report, witness = json.loads(result.read_text()), json.loads(seen.read_text())
    (source,) = report["sources"]
    errors = sorted(goal["error_m"] for goal in report["goal_results"])
    return {
        "goals": report["goals"],
        "successes": report["successes"],
        "error_mm_p50": round(1e3 * errors[len(errors) // 2], 1) if errors else None,
        "end_reason": report["end_reason"],
        "put_backs": report["put_backs"],
        "age_ms": {name: round(value / 1e3, 1) for name, value in source["age_us"].items()},
        "readings": source["readings"],
        "drops": source["drops"],
        "safety_events": report["safety_events"],
        "missed_deadlines": report["missed_deadlines"],
        "ticks": report["ticks"],
        "limit_violations": report["limit_violations"] + witness["commands_outside_limits"],
        "replayed_bit_for_bit": replayed == 0,
    }


if __name__ == "__main__":
    main()
