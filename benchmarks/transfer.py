"""What ``wpg transfer`` is worth: predictions on hidden robots, trials that are saved, and the gap closed.

    python benchmarks/transfer_policies.py --out runs/transfer_policies
    python benchmarks/transfer.py rank runs/transfer_policies/*.onnx
    python benchmarks/transfer.py sequential
    python benchmarks/transfer.py wire runs/transfer_policies/seed0-24000.onnx
    python benchmarks/transfer.py retrain runs/transfer_policies/seed0-24000.onnx
    python benchmarks/transfer.py show

Hidden robots are Pandas in PyBullet with delay, lag, friction, gains, payload, offsets and noise drawn by the
seed of `identification.py`, which neither training nor identification sees; prediction is by MuJoCo. Success
on a hidden robot is what its engine says, and goals and starts are those of the prediction.

Every step appends lines of JSON to --out and leaves out what stands there already; `show` prints the tables
of docs/transfer.md from it.
"""

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tyro
from identification import ROBOT, hidden_arm, in_process

from wpg.cli.transfer.robots import LinkedRobot, RehearsedRobot, RobotOptions
from wpg.cli.transfer.study import StudyConfig, study
from wpg.cli.transfer.trials import Simulator
from wpg.controllers.comparison import mmrv, pearson_r
from wpg.controllers.sequential import SequentialTest, fixed_size, sequential_test
from wpg.export.artifact import Artifact
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.sim_envs.actuators import Identification
from wpg.sim_envs.effects import Effects, effects_toml

ENV, HIDDEN_ENV = "wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"
OUT = Path("benchmarks/results/transfer.jsonl")
QUESTIONS = ((0.85, 0.95), (0.7, 0.9), (0.4, 0.6))
RATES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
SIMULATED_TESTS = 2000
Row = dict[str, Any]


def fitted_arm(robot: int, out: Path) -> Effects:
    """What identification makes of a hidden robot's motion; found once and kept."""
    book = Book(out, "fit")
    if not book.has(robot=robot):
        with tempfile.TemporaryDirectory() as folder:
            found = in_process("pybullet", hidden_arm(robot), Path(folder))
        book.add(robot=robot, actuators=effects_toml(msgspec.convert(found, Identification).effects))
    (text,) = [row["actuators"] for row in book.rows if row["robot"] == robot]
    return msgspec.toml.decode(text, type=Effects)


def with_own_noise(effects: Effects) -> Effects:
    """The same arm with a course of noise of its own, which drawing from a range of a nanometre brings about.

    Simulators with the same seed would otherwise foretell even the noise of the hidden robot's sensors.
    """
    return msgspec.structs.replace(effects, table_height_m=(0.0, 1e-9))


def outcomes(simulator: Simulator, artifact: Artifact, trials: int) -> str:
    """Success of every trial, as 0 and 1."""
    policy = SampledPolicy(artifact, 0)
    return "".join(str(int(simulator.run(policy, seed).success)) for seed in range(trials))


def rate(found: str) -> float:
    """Share of ones."""
    return found.count("1") / len(found)


@contextmanager
def simulators(artifact: Artifact, **effects: Effects | None) -> Iterator[dict[str, Simulator]]:
    """By name: the hidden robot's own engine for ``hidden``, the predicting one for the others."""
    opened = {
        name: Simulator(HIDDEN_ENV if name == "hidden" else ENV, artifact, effects=own)
        for name, own in effects.items()
    }
    try:
        yield opened
    finally:
        for simulator in opened.values():
            simulator.close()


def rank(
    policies: tuple[Path, ...], /, robots: tuple[int, ...] = (0, 1, 2), trials: int = 100, out: Path = OUT
) -> None:
    """Predicted and measured success of every policy on every hidden robot."""
    book = Book(out, "rank")
    artifacts = {path.stem: load_artifact(path) for path in policies}
    for robot in robots:
        left = {name: one for name, one in artifacts.items() if not book.has(robot=robot, policy=name)}
        if not left:
            continue
        true, any_policy = hidden_arm(robot), next(iter(left.values()))
        hidden = with_own_noise(true)
        with simulators(
            any_policy, hidden=hidden, plain=None, fitted=fitted_arm(robot, out), true=true
        ) as places:
            for name, artifact in left.items():
                found = {place: outcomes(one, artifact, trials) for place, one in places.items()}
                book.add(robot=robot, policy=name, trials=trials, outcomes=found)


def sequential(out: Path = OUT, seed: int = 0) -> None:
    """Trials of the sequential test beside a fixed size's, exact, simulated, and on what `rank` measured."""
    book = Book(out, "sequential")
    generator = np.random.default_rng(seed)
    for low, high in QUESTIONS:
        test, (fixed, _) = sequential_test(low, high), fixed_size(low, high, 0.05)
        for true in RATES:
            course = test.course(true)
            runs = [ended(test, generator.random(test.max_trials) < true) for _ in range(SIMULATED_TESTS)]
            book.add(
                low=low,
                high=high,
                rate=true,
                fixed=fixed,
                max_trials=test.max_trials,
                trials=course.trials,
                works=course.works,
                simulated_trials=float(np.mean([length for _, length in runs])),
                simulated_works=float(np.mean([verdict == "works" for verdict, _ in runs])),
            )
    cached = functools.cache(sequential_test)
    for row in Book(out, "rank").rows:
        measured = np.array([int(one) for one in row["outcomes"]["hidden"]], bool)
        target = min(max(rate(row["outcomes"]["fitted"]), 0.5), 0.98)
        test = cached(target - 0.1, target)
        fixed, _ = fixed_size(test.low, test.high, 0.05)
        drawn = [ended(test, generator.choice(measured, test.max_trials)) for _ in range(200)]
        book.add(
            robot=row["robot"],
            policy=row["policy"],
            low=test.low,
            high=test.high,
            fixed=fixed,
            trials=float(np.mean([length for _, length in drawn])),
        )


def ended(test: SequentialTest, found: "np.typing.NDArray[np.bool_]") -> tuple[str, int]:
    """Verdict, and the number of trials that it took."""
    for trials, successes in enumerate(np.cumsum(found).tolist(), start=1):
        if (verdict := test.verdict(successes, trials)) != "undecided":
            return verdict, trials
    return "undecided", len(found)


def wire(policy: Path, /, robots: tuple[int, ...] = (0, 1, 2), trials: int = 20, out: Path = OUT) -> None:
    """The same hidden robot in process and behind UDP in another process, through the control loop."""
    book = Book(out, "wire")
    artifact = load_artifact(policy)
    config = StudyConfig(trials=trials, stop_early=False)
    for robot in robots:
        if book.has(robot=robot):
            continue
        effects = hidden_arm(robot)
        with simulators(artifact, true=effects) as places:
            rehearsed = study(artifact, places, RehearsedRobot("pybullet", effects), config).result
            with emulated(effects) as link:
                options = RobotOptions(robot=ROBOT.name, key=None, calibration=None, safety=None, logs=None)
                linked = study(artifact, places, LinkedRobot(link, options), config).result
        for place, result in (("in process", rehearsed), ("udp", linked)):
            book.add(
                robot=robot,
                policy=policy.stem,
                place=place,
                trials=result.trials,
                success=result.to.success,
                predicted=result.agreement.simulator.success,
                joint_gap_rad=result.agreement.joint_gap_rad,
            )


@contextmanager
def emulated(effects: Effects) -> Iterator[str]:
    """A hidden robot behind real bytes; gives its link."""
    wpg = [sys.executable, "-m", "wpg.cli.main"]
    with tempfile.TemporaryDirectory() as folder:
        hidden = Path(folder) / "hidden.toml"
        hidden.write_text(effects_toml(effects))
        command = [*wpg, "emulate", ROBOT.name, "--link", "udp://127.0.0.1:0", "--engine", "pybullet"]
        emulator = subprocess.Popen([*command, "--actuators", str(hidden)], stdout=subprocess.PIPE, text=True)
        try:
            assert emulator.stdout is not None
            yield json.loads(emulator.stdout.readline())["link"]
        finally:
            emulator.terminate()
            emulator.wait()


def retrain(
    policy: Path,
    /,
    robots: tuple[int, ...] = tuple(range(10)),
    trials: int = 100,
    steps: int = 40_000,
    out: Path = OUT,
) -> None:
    """Success on hidden robots of a policy from the plain simulator and of one from the identified arm."""
    book = Book(out, "retrain")
    before = load_artifact(policy)
    for robot in robots:
        if book.has(robot=robot):
            continue
        fitted = fitted_arm(robot, out)
        with tempfile.TemporaryDirectory() as folder:
            actuators, run = Path(folder) / "actuators.toml", Path(folder) / "run"
            actuators.write_text(effects_toml(fitted))
            command = [sys.executable, "-m", "wpg.cli.main", "train", ENV, "--actuators", str(actuators)]
            subprocess.run([*command, "--steps", str(steps), "--out", str(run)], check=True)
            after = load_artifact(run / "policy.onnx")
        hidden = with_own_noise(hidden_arm(robot))
        found: dict[str, dict[str, float]] = {}
        for when, artifact in (("before", before), ("after", after)):
            with simulators(artifact, hidden=hidden, plain=None, fitted=fitted) as places:
                found[when] = {place: rate(outcomes(one, artifact, trials)) for place, one in places.items()}
        book.add(robot=robot, policy=policy.stem, steps=steps, trials=trials, **found)


def show(out: Path = OUT) -> None:
    """Print the tables of docs/transfer.md."""
    _show_rank(Book(out, "rank").rows)
    _show_sequential(Book(out, "sequential").rows)
    _show_wire(Book(out, "wire").rows)
    _show_retrain(Book(out, "retrain").rows)


def _show_rank(rows: Sequence[Row]) -> None:
    print("\n| hidden robot | policies | simulator | r | MMRV | mean error, points | largest |")
    print("|---|---|---|---|---|---|---|")
    robots = sorted({row["robot"] for row in rows})
    for robot in (*robots, None):
        own = [row for row in rows if robot in (None, row["robot"])]
        measured = [rate(row["outcomes"]["hidden"]) for row in own]
        for name in (place for place in own[0]["outcomes"] if place != "hidden"):
            predicted = [rate(row["outcomes"][name]) for row in own]
            error = 100 * np.abs(np.subtract(predicted, measured))
            r, violation = pearson_r(predicted, measured), mmrv(predicted, measured)
            label = "all" if robot is None else robot
            print(
                f"| {label} | {len(own)} | {name} | {_number(r)} | {_number(violation)} | {error.mean():.1f} "
                f"| {error.max():.0f} |"
            )


def _show_sequential(rows: Sequence[Row]) -> None:
    exact = [row for row in rows if "rate" in row]
    print("\n| question | true rate | fixed size | sequential, mean | fewer | says it works |")
    print("|---|---|---|---|---|---|")
    for row in exact:
        print(
            f"| {row['low']:g} or {row['high']:g} | {row['rate']:g} | {row['fixed']} | {row['trials']:.1f} "
            f"| {1 - row['trials'] / row['fixed']:.0%} | {row['works']:.3f} |"
        )
    real = [row for row in rows if "policy" in row]
    for name, own in (("true rates", exact), ("measured policies", real)):
        if own:
            fewer = [1 - row["trials"] / row["fixed"] for row in own]
            print(f"\n{name}: {np.mean(fewer):.0%} fewer in the mean, {min(fewer):.0%} at the least")


def _show_wire(rows: Sequence[Row]) -> None:
    print("\n| hidden robot | place | reached | true simulator | joint gap |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['robot']} | {row['place']} | {row['success']:.0%} of {row['trials']} "
            f"| {row['predicted']:.0%} | {1000 * row['joint_gap_rad']:.1f} mrad |"
        )


def _show_retrain(rows: Sequence[Row]) -> None:
    print("\n| hidden robot | delay | before: plain | fitted | robot | after: plain | fitted | robot |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        delay_ms = 1000 * hidden_arm(row["robot"]).delay_range_s()[0]
        shares = [row[when][place] for when in ("before", "after") for place in ("plain", "fitted", "hidden")]
        print(f"| {row['robot']} | {delay_ms:.0f} ms | {' | '.join(f'{share:.0%}' for share in shares)} |")
    for when in ("before", "after") if rows else ():
        robot = np.array([row[when]["hidden"] for row in rows])
        gaps = {place: [row[when][place] for row in rows] - robot for place in ("plain", "fitted")}
        medians = ", ".join(f"{100 * np.median(np.abs(gap)):.1f} ({name})" for name, gap in gaps.items())
        print(f"\n{when}: median success {np.median(robot):.0%}, median gap to simulation {medians} points")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


class Book:
    """The lines of one step in the file of results."""

    def __init__(self, path: Path, step: str) -> None:
        self._path = path
        self._step = step
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines()]
        self.rows: list[Row] = [line for line in lines if line["step"] == step]

    def has(self, **fields: object) -> bool:
        """Whether a line has these fields."""
        return any(all(row.get(name) == value for name, value in fields.items()) for row in self.rows)

    def add(self, **fields: object) -> None:
        """Append a line."""
        row = {"step": self._step, **fields}
        self.rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row)[:200], flush=True)


if __name__ == "__main__":
    steps: tuple[Callable[..., None], ...] = (rank, sequential, wire, retrain, show)
    tyro.extras.subcommand_cli_from_dict({step.__name__: step for step in steps})
