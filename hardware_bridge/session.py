"""The whole of a run in one call: what ``wpg run`` does."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from wpg.export.artifact import Artifact
from wpg.export.contract import encode_contract
from wpg.hardware_bridge.clock import RealClock
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.goals import GoalResult
from wpg.hardware_bridge.control.homing import PutBack
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.control.report import RunReport
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.drivers import find_driver
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.robot import Robot, notices_of
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.schema import POLICY_FILE
from wpg.hardware_bridge.signals import stop_on_signals
from wpg.hardware_bridge.sources.source import Source


def open_robot(
    description: RobotDescription,
    url: str,
    *,
    key: bytes | None = None,
    calibration: str | Path | None = None,
) -> Robot:
    """The driver for a robot, not yet connected.

    Args:
        description: the robot that is expected at the other end.
        url: the link, e.g. ``serial:///dev/ttyUSB0`` or ``fci://172.16.0.2``; a scheme that names a protocol
            is spoken to in that one, else in the description's.
        key: shared secret of the native protocol.
        calibration: LeRobot's calibration file of an arm on a servo bus.

    Raises:
        DescriptionError: the calibration is not this arm's, or there is no such protocol.
        LinkUrlError: the link cannot be read.
        LinkError: a robot of native frames is on another machine, and there is no key.
    """
    calibration = None if calibration is None else Path(calibration)
    return find_driver(description, url)(description, url, key=key, calibration=calibration)


def run_policy(
    artifact: Artifact,
    robot: Robot,
    config: LoopConfig,
    *,
    noise_seed: int = 0,
    num_particles: int | None = None,
    log: str | Path | None = None,
    realtime_config: RealtimeConfig | None = None,
    should_stop: Callable[[], str] | None = None,
    emergency: EmergencyStop | None = None,
    enough: Callable[[Sequence[GoalResult]], bool] = lambda results: False,
    sources: Sequence[Source] = (),
    put_back: PutBack | None = None,
) -> RunReport:
    """Run an exported policy on a robot, from connecting to leaving it parked.

    Replays the artifact's golden vectors first. SIGINT, SIGTERM, SIGHUP and SIGTSTP end the run in good
    order. SIGQUIT and a second SIGINT stop the arm at once. If ``should_stop`` is given, it is asked instead.

    Args:
        artifact: the loaded file.
        robot: not yet connected; closed at the end.
        config: what to do.
        noise_seed: of the sampler's noise.
        num_particles: particles to draw; by default the contract's.
        log: MCAP file to write, which must not exist.
        should_stop: asked at every tick; anything but "" ends the run and says why.
        emergency: may stop the arm at once, from a key, a signal, or another thread.
        enough: asked after every goal, with the results so far; True ends the run like the last goal.
        sources: feed the observation terms from outside the robot; not yet connected, closed at the end.
        put_back: sees to objects that lie out of reach, see ``docs/sources.md``; without, they end the run.
        realtime_config: how punctual to make the loop; by default SCHED_FIFO and locked memory where granted.

    Raises:
        ArtifactError: the artifact does not compute what it should, or does not fit the robot.
        LogError: the log cannot be written.
        BridgeError: the robot cannot be reached, is another, or stands where it must not be armed.
    """
    artifact.verify_golden()
    policy = SampledPolicy(artifact, noise_seed, num_particles)
    emergency = emergency or EmergencyStop()
    with contextlib.ExitStack() as stack:
        # Before the log is opened: a signal meanwhile ends the run, which then takes the log away.
        should_stop = should_stop or stack.enter_context(stop_on_signals(emergency))
        run_log = None
        if log is not None:
            log = Path(log)
            metadata = _metadata(artifact, robot, config, noise_seed, policy.num_particles)
            run_log = RunLog(log, metadata, _attachments(artifact, robot))
            stack.callback(run_log.close)
            stack.enter_context(_no_log_of_nothing(run_log, log))
        loop = ControlLoop(
            robot,
            policy,
            config,
            clock=RealClock(),
            should_stop=should_stop,
            emergency=emergency,
            enough=enough,
            sources=sources,
            put_back=put_back,
            recorder=run_log,
        )
        with realtime(realtime_config or RealtimeConfig()) as warnings:
            report = loop.run()
        report.warnings.extend((*warnings, *notices_of(robot)))
        if run_log is not None:
            run_log.attach("report.json", msgspec.json.encode(report))
            run_log.close()
            report.log_dropped, report.log_error = run_log.dropped, run_log.error
    return report


@contextlib.contextmanager
def _no_log_of_nothing(run_log: RunLog, path: Path) -> Iterator[None]:
    """Take the log away when the run ended before the arm was armed: its name is free again."""
    try:
        yield
    except BaseException:
        run_log.close()
        if not run_log.armed:
            path.unlink(missing_ok=True)
        raise


def _metadata(
    artifact: Artifact, robot: Robot, config: LoopConfig, noise_seed: int, num_particles: int
) -> dict[str, str]:
    return {
        "robot": robot.description.name,
        "servo_rate_hz": repr(robot.description.servo_rate_hz),
        "policy_sha256": artifact.digest,
        "noise_seed": str(noise_seed),
        "particles": str(num_particles),
        "goal_seed": str(config.seed),
    }


def _attachments(artifact: Artifact, robot: Robot) -> dict[str, bytes]:
    return {
        "contract.json": encode_contract(artifact.contract).encode(),
        "description.json": msgspec.json.encode(robot.description),
        POLICY_FILE: artifact.path.read_bytes(),
    }
