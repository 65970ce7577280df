"""Place B, where a policy is to work: another environment, a robot behind a link, or the log of a run."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wpg.cli.options import CommandError, refuse_existing
from wpg.cli.policies import why_not_on_robot
from wpg.cli.robots import emergency_stop, safety_of
from wpg.cli.terminal import terminal
from wpg.cli.transfer.trials import Simulator, Trial, decode_results, logged_trials
from wpg.controllers.config import ResolvedConfig
from wpg.controllers.training.run_folder import CONFIG_NAME
from wpg.export.artifact import Artifact
from wpg.hardware_bridge.control.goals import GoalResult
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.description import RobotDescription, RobotSource, load_description
from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.keys import read_key
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.robot import Robot
from wpg.hardware_bridge.run_log.reader import RunRecording, read_log
from wpg.hardware_bridge.session import open_robot, run_policy

Enough = Callable[[Sequence[bool]], bool]
"""Whether the outcomes so far, in their order, answer the question."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a policy did in place B."""

    trials: list[Trial]
    safety_events: dict[str, int]


def robot_of_runs(policies: Sequence[Path]) -> RobotSource | None:
    """The robot that the first run folder among the policies was told to use; None if none was told."""
    configs = [path / CONFIG_NAME for path in policies if (path / CONFIG_NAME).is_file()]
    told = (ResolvedConfig.load(config).env_kwargs.get("robot") for config in configs)
    return next((robot for robot in told if robot is not None), None)


class Destination(ABC):
    """A place where policies are to work."""

    name: str
    is_robot: bool = True
    """Whether trials begin where the arm stands, not where the seed says, and sensors measure success."""

    def prepare(self, artifacts: Sequence[Artifact]) -> None:
        """Check before anything moves that the trials can be run.

        Raises:
            CommandError: these policies cannot run there, or their results could not be stored.
        """
        for artifact in artifacts:
            if self.is_robot and (reason := why_not_on_robot(artifact.contract.interface)):
                raise CommandError(
                    f"{artifact.path}: on a robot, and from its log, `wpg transfer` compares only policies "
                    f"with goals drawn for the tool; this one {reason}. --to another environment compares any"
                )

    def extent(self, artifact: Artifact, count: int, enough: int) -> str:
        """How many trials there will be there, for the user.

        Args:
            artifact: the policy.
            count: most trials that were asked for.
            enough: trials after which the answer is clear at the latest.
        """
        return f"At most {min(count, enough)} trials to know"

    @abstractmethod
    def run(self, artifact: Artifact, simulator: Simulator, count: int, seed: int, enough: Enough) -> Tried:
        """Try up to ``count`` goals.

        Args:
            artifact: the policy.
            simulator: rewards what is achieved.
            count: most trials.
            seed: of goals and noise.
            enough: asked after every trial.
        """


class OtherEnvironment(Destination):
    """Another environment, tried with the same seeds as the first."""

    is_robot = False

    def __init__(self, env_id: str, robot: RobotSource | None) -> None:
        self.name = env_id
        self._robot = robot

    def prepare(self, artifacts: Sequence[Artifact]) -> None:
        """Check that the environment exists and the policies fit it."""
        for artifact in artifacts:
            Simulator(self.name, artifact, robot=self._robot).close()

    def extent(self, artifact: Artifact, count: int, enough: int) -> str:
        """All trials are run."""
        return f"It is tried {count} times there"

    def run(self, artifact: Artifact, simulator: Simulator, count: int, seed: int, enough: Enough) -> Tried:
        """Run all trials: they cost little in simulation, and more trials give narrower intervals."""
        place = Simulator(self.name, artifact, robot=self._robot)
        try:
            policy = SampledPolicy(artifact, seed)
            trials = [place.run(policy, seed + index) for index in range(count)]
        finally:
            place.close()
        return Tried(trials=trials, safety_events={})


@dataclass(frozen=True, kw_only=True)
class RobotOptions:
    """Options of running a robot, as in `wpg run`."""

    robot: RobotSource | None
    key: Path | None
    calibration: Path | None
    safety: Path | None
    logs: Path | None
    """Keep each policy's run log in this folder."""


class LinkedRobot(Destination):
    """A real or emulated robot, run through the bridge."""

    def __init__(self, url: str, options: RobotOptions) -> None:
        self.name = url
        self._options = options
        self._key = None if options.key is None else read_key(options.key)
        self._safety = safety_of(options.safety)

    def prepare(self, artifacts: Sequence[Artifact]) -> None:
        """Check that the link has a driver and that every log has a name of its own.

        Raises:
            CommandError: two logs have the same name, or one would overwrite another; or a policy's goals
                are not for the tool.
            LinkUrlError, LinkError, DescriptionError: the link is invalid, needs a key, or does not fit this
                robot.
        """
        super().prepare(artifacts)
        for artifact in artifacts:
            assert artifact.contract.interface.robot is not None  # its simulator, made before, has checked it
            self._driver(load_description(self._options.robot or artifact.contract.interface.robot.name))
        if self._options.logs is None:
            return
        kept = [_log_of(artifact, self._options.logs) for artifact in artifacts]
        for path in kept:
            if kept.count(path) > 1:
                raise CommandError(
                    f"--logs: expected policies with different file names, found {path.stem} twice"
                )
            refuse_existing(path, "--logs")
        self._options.logs.mkdir(parents=True, exist_ok=True)

    def run(self, artifact: Artifact, simulator: Simulator, count: int, seed: int, enough: Enough) -> Tried:
        """Goals one after the other, until they are enough; the log is read back.

        Raises:
            CommandError: the run did not end well, or its log was cut short.
            LogError: the log has gaps.
        """
        description = simulator.arm.robot.description
        if self._options.robot is not None:
            description = load_description(self._options.robot)
        with tempfile.TemporaryDirectory() as folder, emergency_stop(terminal()) as emergency:
            log = _log_of(artifact, self._options.logs or Path(folder))
            report = run_policy(
                artifact,
                self._driver(description),
                LoopConfig(goals=count, seed=seed, safety=self._safety),
                noise_seed=seed,
                log=log,
                emergency=emergency,
                enough=lambda results: enough([result.reached for result in results]),
            )
            if not report.completed:
                raise CommandError(f"{self.name}: the run ended by {report.end_reason}: {report.message}")
            if report.end_reason == "stopped":
                raise CommandError(f"{self.name}: stopped after {report.goals} goals: {report.message}")
            if report.log_error:
                raise CommandError(f"{self.name}: the run log is not whole: {report.log_error}")
            trials = logged_trials(read_log(log), report.goal_results, artifact, simulator, log.name)
        return Tried(trials=trials, safety_events=report.safety_events)

    def _driver(self, description: RobotDescription) -> Robot:
        return open_robot(description, self.name, key=self._key, calibration=self._options.calibration)


class LoggedRobot(Destination):
    """A robot whose run was logged before, so that nothing moves."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._read: dict[str, RunRecording] = {}

    def prepare(self, artifacts: Sequence[Artifact]) -> None:
        """Read the logs.

        Raises:
            CommandError: a policy's goals are not for the tool.
            LogError: a log is missing, or belongs to another robot or policy.
        """
        super().prepare(artifacts)
        self._read = {artifact.digest: self._recording(artifact) for artifact in artifacts}

    def extent(self, artifact: Artifact, count: int, enough: int) -> str:
        """A log has a fixed number of goals.

        Raises:
            LogError: its report is missing.
        """
        return f"Goals taken from the log: {len(self._results(artifact, count))}"

    def run(self, artifact: Artifact, simulator: Simulator, count: int, seed: int, enough: Enough) -> Tried:
        """The goals of the log.

        Raises:
            LogError: its report is missing, or it has gaps.
        """
        recording, path = self._read[artifact.digest], self._place(artifact)
        results = self._results(artifact, count)
        trials = logged_trials(recording, results, artifact, simulator, str(path))
        return Tried(trials=trials, safety_events={})

    def _results(self, artifact: Artifact, count: int) -> list[GoalResult]:
        return decode_results(self._read[artifact.digest], str(self._place(artifact)))[:count]

    def _place(self, artifact: Artifact) -> Path:
        """The log itself, or in a folder the log with the artifact's name."""
        return _log_of(artifact, self._path) if self._path.is_dir() else self._path

    def _recording(self, artifact: Artifact) -> RunRecording:
        path = self._place(artifact)
        recording = read_log(path)
        assert artifact.contract.interface.robot is not None
        expected = artifact.contract.interface.robot.name
        if (found := recording.metadata.get("robot")) != expected:
            raise LogError(f"{path}: expected a run of {expected}, found one of {found}")
        if (found := recording.metadata.get("policy_sha256")) != artifact.digest:
            other = (
                "a motion without a policy" if found is None else f"that of another policy ({found[:16]}…)"
            )
            raise LogError(
                f"{path}: expected the run of {artifact.path} ({artifact.digest[:16]}…), found {other}"
            )
        return recording


def _log_of(artifact: Artifact, folder: Path) -> Path:
    """Where the log of an artifact's run is kept."""
    return folder / f"{artifact.path.stem}.mcap"
