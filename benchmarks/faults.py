"""Fault campaign: seeded runs over all protocols and fault kinds, with the emulator as the witness of safety.

    python benchmarks/faults.py [--runs 1000] [--processes 40] [--out benchmarks/results/faults.jsonl]
    python benchmarks/faults.py --runs 600 --processes 0 --protocol feetech --kind truncate [--out ...]

Most runs join the real driver, loop, safety filter and emulated device in one process, on a
simulated clock; a policy of random full steps moves the arm. ``--processes`` of them are real
processes over a pseudo-terminal, ``wpg emulate`` and ``wpg run --log``. In each run one process (the bridge,
the emulator or the logger) is killed with SIGKILL at a random moment. Writes one line of JSON for each run
and prints a table. The exit code is 1 if a run was not safe.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

import tyro
from fault_processes import PROCESS_KINDS, ProcessRuns
from fault_runs import KINDS, PROTOCOLS, run_in_process
from rows import write

HOLD_MS = 100.0


def unsafe(row: dict[str, Any]) -> list[str]:
    """The rules that a run broke."""
    # Feetech's eight-bit checksum lets some damaged goals pass; then the servos' own limits hold the arm.
    wrong = 0 if row["protocol"] == "feetech" else row["commands_outside_limits"]
    checks = {
        "commands outside limits": wrong == 0 and row["limit_violations"] == 0,
        "arm outside limits": not row["arm_outside"],
        "hang": not row["hang"],
        "late hold": row["hold_ms_max"] <= HOLD_MS and row["coasting_ms_max"] <= HOLD_MS,
        "moving at the end": not row["moving_at_end"],
        "jump": row["jump_share_max"] <= 1.0,
        "recovery": row.get("recovered", True),
        "log": row.get("log_whole", True),
    }
    return [name for name, passed in checks.items() if not passed]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Table with one line for each kind of fault."""
    lines = [
        "| fault | runs | outside limits | arm outside | hangs | hold ms max | held | went on "
        "| largest step after a hold | sudden by arrival | not safe |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        total = {
            name: sum(row[name] for row in mine)
            for name in ("commands_outside_limits", "hang", "holds", "sudden_by_arrival")
        }
        late_ms = max(max(row["hold_ms_max"], row["coasting_ms_max"]) for row in mine)
        share = max(row["jump_share_max"] for row in mine)
        went_on = sum(row["recoveries"] for row in mine)
        bad = sum(bool(row["unsafe"]) for row in mine)
        left = sum(bool(row["arm_outside"]) for row in mine)
        lines.append(
            f"| {kind} | {len(mine)} | {total['commands_outside_limits']} | {left} | {total['hang']} "
            f"| {late_ms:.0f} | {total['holds']} | {went_on} | {100 * share:.0f} % "
            f"| {total['sudden_by_arrival']} | {bad} |"
        )
    return lines


def main(
    *,
    runs: int = 1000,
    processes: int = 40,
    seed: int = 0,
    protocol: Literal[*PROTOCOLS] | None = None,
    kind: Literal[*KINDS] | None = None,
    out: Path | None = None,
) -> int:
    """Run the campaign.

    Args:
        runs: All runs.
        processes: Runs of real processes among them.
        seed: Seed of the first run; it increases by one per run.
        protocol: Protocol of all runs; by default each in turn.
        kind: Fault of the runs in one process; by default each in turn.
        out: File of JSON lines to write.
    """
    began_s = time.monotonic()
    rows = []
    protocols = (protocol,) if protocol else PROTOCOLS
    kinds = (kind,) if kind else tuple(KINDS)
    for number in range(runs - processes):
        chosen = protocols[number % len(protocols)], kinds[number // len(protocols) % len(kinds)]
        rows.append(run_in_process(*chosen, seed=seed + number))
    with ProcessRuns() as real:
        for number in range(processes):
            fault = PROCESS_KINDS[number // len(protocols) % len(PROCESS_KINDS)]
            rows.append(real.run(protocols[number % len(protocols)], fault, seed=seed + number))
    for row in rows:
        row["unsafe"] = unsafe(row)
    if out is not None:
        write(out, rows)
    print("\n".join(table(rows)))
    for row in rows:
        if row["unsafe"]:
            print(json.dumps(row))
    bad = sum(bool(row["unsafe"]) for row in rows)
    print(f"{len(rows)} runs in {time.monotonic() - began_s:.0f} s, {bad} not safe")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, description=__doc__))
