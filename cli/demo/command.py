"""``wpg demo``: the whole workflow, each step run as a user would run it by hand."""

import json
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wpg.cli.demo.files import ENGINE_ENVS, DemoFiles, Summary
from wpg.cli.options import CommandError, refuse_existing, require_at_least, write_json
from wpg.cli.terminal import terminal

TRAIN_SECONDS = 110
ROBOT = "panda"
LINKS = {"serial": "pty:", "udp": "udp://127.0.0.1:0"}
STARTUP_S = 60.0


def demo(
    *,
    out: Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    episodes: int = 100,
    goals: int = 20,
) -> None:
    """Train a Panda to reach in MuJoCo, export it, run it over serial and UDP on an emulated arm, report.

    Args:
        out: New folder for all results; by default runs/demo-DATE.
        seed: Seed of training, goals and noise.
        steps: Maximum environment steps of the training; by default as many as the task needs.
        episodes: Episodes of each evaluation in simulation.
        goals: Goals of each run through the real-time loop.
    """
    from wpg.cli.demo.report import write_report  # noqa: PLC0415  matplotlib is not part of the bare bridge

    require_at_least(1, steps=steps, episodes=episodes, goals=goals)
    require_at_least(0, seed=seed)
    started = time.monotonic()
    files = DemoFiles(out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S"))
    refuse_existing(files.root, "--out")
    files.root.mkdir(parents=True)
    console = terminal()
    stages = Stages(console)

    training = ["train", ENGINE_ENVS["mujoco"], "--max-seconds", str(TRAIN_SECONDS), "--seed", str(seed)]
    training += ["--out", str(files.run)]
    if steps is not None:
        training += ["--steps", str(steps)]
    stages.run("train in MuJoCo, and export", training)
    for engine, env in ENGINE_ENVS.items():
        stages.run(
            f"evaluate the exported file in {engine}",
            ("evaluate", str(files.artifact), "--env", env, "--episodes", str(episodes)),
            writes=files.evaluation(engine),
        )
    for name, url in LINKS.items():
        with stages.emulator(url, files.witness(name)) as link:
            running = ["run", str(files.artifact), "--robot", ROBOT, "--link", link]
            running += ["--goals", str(goals), "--seed", str(seed), "--log", str(files.log(name))]
            stages.run(f"run it over {link}", running, writes=files.result(name))
    stages.title("report")
    summary = write_report(files, tuple(LINKS), stages.commands, started)
    console.print(_table(summary))
    write_json(files.summary, summary)
    console.print(f"report: {files.report.resolve()}", soft_wrap=True)


class Stages:
    """Runs subcommands in separate processes, and records their command lines for the report."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.commands: list[str] = []

    def title(self, text: str) -> None:
        """Print the title of the next stage."""
        self._console.print(f"▸ {text}", style="bold")

    def run(self, title: str, arguments: Sequence[str], *, writes: Path | None = None) -> None:
        """Run ``wpg`` with these arguments to its end; ``writes`` is the file for its ``--json``.

        Raises:
            CommandError: the command failed; its own output says why.
        """
        self.title(title)
        json_option = () if writes is None else ("--json", str(writes))
        code = subprocess.run(self._command((*arguments, *json_option)), check=False).returncode
        if code != 0:
            raise self._ended(code)

    @contextmanager
    def emulator(self, url: str, witness: Path) -> Iterator[str]:
        """Run an emulated robot in another process while the context lasts; yields its link."""
        arguments = ("emulate", ROBOT, "--link", url, "--json", str(witness))
        with subprocess.Popen(self._command(arguments), stdout=subprocess.PIPE, text=True) as process:
            try:
                yield self._announced(process)["link"]
            finally:
                process.terminate()

    def _announced(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        """The JSON line that an emulator prints when it is ready."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], STARTUP_S)
        if not ready:
            raise CommandError(f"the emulator did not start within {STARTUP_S:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise self._ended(process.wait())
        announced: dict[str, Any] = json.loads(line)
        return announced

    def _ended(self, code: int) -> CommandError:
        """Error about the last command, which has itself printed the reason."""
        return CommandError(f"the demo stops here: `{self.commands[-1]}` ended with exit code {code}")

    def _command(self, arguments: Sequence[str]) -> list[str]:
        self.commands.append(shlex.join(("wpg", *arguments)))
        return [sys.executable, "-m", "wpg.cli.main", *arguments]


def _table(summary: Summary) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    rows = {
        "training": f"{summary.train_s:.0f} s",
        "success in MuJoCo": f"{summary.success_mujoco:.0%}",
        "success in PyBullet, never trained on": f"{summary.success_pybullet:.0%}",
        "success over the serial pty": f"{summary.success_serial:.0%} of {summary.goals_serial} goals",
        "success over UDP": f"{summary.success_udp:.0%} of {summary.goals_udp} goals",
        "limit violations, by bridge and emulators": str(summary.limit_violations),
        "loop rate": f"{summary.rate_hz:.1f} Hz",
        "lateness p50 / p99 / max": " / ".join(
            f"{summary.lateness_us[key]:.0f}" for key in ("p50", "p99", "max")
        )
        + " µs",
        "wall time": f"{summary.wall_s:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
