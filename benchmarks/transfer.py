"""Measures what ``wpg transfer`` is worth: predictions on hidden robots, trials saved, and the gap closed.

    python benchmarks/transfer_policies.py --out runs/transfer_policies
    python benchmarks/transfer.py rank runs/transfer_policies/*.onnx
    python benchmarks/transfer.py sequential
    python benchmarks/transfer.py wire runs/transfer_policies/joints0-24000.onnx
    python benchmarks/transfer.py retrain runs/transfer_policies/joints0-24000.onnx
    python benchmarks/transfer.py randomise
    python benchmarks/transfer.py show [--picture docs/images/ranking.png]

Hidden robots are Pandas in PyBullet with delay, lag, friction, gains, payload, offsets and noise drawn by the
seed of `identification.py`, which neither training nor identification sees. MuJoCo predicts. Success on a
hidden robot is what its engine reports, and goals and starts are those of the prediction.

Every step appends lines of JSON to --out and skips what is already there. `show` prints the tables of
docs/transfer.md from it.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import tyro
from identification import ROBOT, hidden_arm, hidden_family, in_process
from numpy.typing import NDArray
from transfer_results import OUT, Book, rate, show
from wpg_process import emulated, run_command

from wpg.cli.transfer.destinations import LinkedRobot, RobotOptions
from wpg.cli.transfer.sequential_test import SequentialTest, fixed_size, sequential_test
from wpg.cli.transfer.study import StudyConfig, study
from wpg.cli.transfer.testing import RehearsedRobot
from wpg.cli.transfer.trials import Simulator
from wpg.export.artifact import Artifact
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.sim_envs.effects import Effects, effects_toml
from wpg.sim_envs.identification.identify import Identification

ENV, HIDDEN_ENV = "wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"
QUESTIONS = ((0.85, 0.95), (0.7, 0.9), (0.4, 0.6))
RATES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
SIMULATED_TESTS = 2000


def fitted_arm(robot: int, out: Path) -> Effects:
    """What identification makes of a hidden robot's motion; found once and kept."""
    book = Book(out, "fit")
    if not book.has(robot=robot):
        with tempfile.TemporaryDirectory() as folder:
            found = in_process("pybullet", hidden_arm(robot), Path(folder))
        book.add(robot=robot, actuators=effects_toml(msgspec.convert(found, Identification).effects))
    (text,) = [row["actuators"] for row in book.rows if row["robot"] == robot]
    return msgspec.toml.decode(text, type=Effects)


def with_own_noise(effects: Effects, course: int = 1) -> Effects:
    """The same arm with a course of noise of its own, which drawing from so many tiny ranges brings about.

    Simulators with the same seed would otherwise foretell even the noise of the hidden robot's sensors.
    """
    fields = ("table_height_m", "gravity_tilt_x_rad")[:course]
    return msgspec.structs.replace(effects, **dict.fromkeys(fields, (0.0, 1e-9)))


def outcomes(simulator: Simulator, artifact: Artifact, trials: int) -> str:
    """Success of every trial, as 0 and 1."""
    policy = SampledPolicy(artifact, 0)
    return "".join(str(int(simulator.run(policy, seed).success)) for seed in range(trials))


@contextmanager
def simulators(artifact: Artifact, **effects: Effects | None) -> Iterator[dict[str, Simulator]]:
    """By name: the hidden robot's engine for ``hidden`` and ``again``, the predicting one for the others."""
    opened = {
        name: Simulator(HIDDEN_ENV if name in ("hidden", "again") else ENV, artifact, effects=own)
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
        true = hidden_arm(robot)
        effects = {"hidden": with_own_noise(true), "again": with_own_noise(true, 2)}
        effects |= {"plain": None, "fitted": fitted_arm(robot, out), "true": true}
        for name, artifact in left.items():
            with simulators(artifact, **effects) as places:
                found = {place: outcomes(one, artifact, trials) for place, one in places.items()}
            book.add(robot=robot, policy=name, trials=trials, outcomes=found)


def sequential(out: Path = OUT, seed: int = 0) -> None:
    """Trials of the sequential test beside a fixed size's, exact, simulated, and on what `rank` measured."""
    book = Book(out, "sequential")
    generator = np.random.default_rng(seed)
    for low, high in QUESTIONS:
        test, (fixed, _) = sequential_test(low, high), fixed_size(low, high, 0.05)
        for true in RATES:
            course = test.operating_characteristic(true)
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


def ended(test: SequentialTest, found: NDArray[np.bool_]) -> tuple[str, int]:
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
            with behind_udp(effects) as link:
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
def behind_udp(effects: Effects) -> Iterator[str]:
    """A hidden robot behind real bytes; gives its link."""
    with tempfile.TemporaryDirectory() as folder:
        hidden = Path(folder) / "hidden.toml"
        hidden.write_text(effects_toml(effects))
        options = ["--link", "udp://127.0.0.1:0", "--engine", "pybullet", "--actuators", hidden]
        with emulated(ROBOT.name, *options) as arm:
            yield arm.link


def retrain(
    policy: Path,
    /,
    robots: tuple[int, ...] = tuple(range(10)),
    trials: int = 100,
    steps: int = 40_000,
    out: Path = OUT,
) -> None:
    """Success on hidden robots of a policy from the unfitted simulator and of one from the identified arm."""
    book = Book(out, "retrain")
    before = load_artifact(policy)
    for robot in robots:
        if book.has(robot=robot):
            continue
        fitted = fitted_arm(robot, out)
        after = trained_on(fitted, steps)
        hidden = with_own_noise(hidden_arm(robot))
        found: dict[str, dict[str, float]] = {}
        for when, artifact in (("before", before), ("after", after)):
            with simulators(artifact, hidden=hidden, plain=None, fitted=fitted) as places:
                found[when] = {place: rate(outcomes(one, artifact, trials)) for place, one in places.items()}
        book.add(robot=robot, policy=policy.stem, steps=steps, trials=trials, **found)


def randomise(
    robots: tuple[int, ...] = tuple(range(10)), trials: int = 100, steps: int = 40_000, out: Path = OUT
) -> None:
    """Success on hidden robots of policies that were trained on all that such robots may be."""
    book = Book(out, "randomise")
    family = hidden_family()
    for varied, effects in (("delay", Effects(action_delay_s=family.action_delay_s)), ("all", family)):
        left = [robot for robot in robots if not book.has(varied=varied, robot=robot)]
        if not left:
            continue
        artifact = trained_on(effects, steps)
        with simulators(artifact, simulated=effects) as places:
            simulated = rate(outcomes(places["simulated"], artifact, trials))
        for robot in left:
            with simulators(artifact, hidden=with_own_noise(hidden_arm(robot))) as places:
                hidden = rate(outcomes(places["hidden"], artifact, trials))
            book.add(
                varied=varied, robot=robot, steps=steps, trials=trials, simulated=simulated, hidden=hidden
            )


def trained_on(effects: Effects, steps: int) -> Artifact:
    """What ``wpg train --actuators`` makes of these effects."""
    with tempfile.TemporaryDirectory() as folder:
        actuators, run = Path(folder) / "actuators.toml", Path(folder) / "run"
        actuators.write_text(effects_toml(effects))
        run_command("train", ENV, "--actuators", actuators, "--steps", str(steps), "--out", run)
        return load_artifact(run / "policy.onnx")


if __name__ == "__main__":
    steps: tuple[Callable[..., None], ...] = (rank, sequential, wire, retrain, randomise, show)
    tyro.extras.subcommand_cli_from_dict({step.__name__: step for step in steps})
