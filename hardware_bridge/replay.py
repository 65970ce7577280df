"""Replays a run log through its artifact: the same observations must give the same actions, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from wpg.export.artifact import Artifact
from wpg.export.interface import PolicyInterface
from wpg.export.reader import artifact_from_bytes
from wpg.hardware_bridge.errors import LogError
from wpg.hardware_bridge.pipeline import ObservationPipeline
from wpg.hardware_bridge.policy import Floats
from wpg.hardware_bridge.robot import RobotState, Vector
from wpg.hardware_bridge.run_log.reader import RunRecording
from wpg.hardware_bridge.run_log.schema import POLICY_FILE


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """First difference between a replay and its log."""

    decision: int
    """Number of the policy step."""
    time_s: float
    quantity: str
    """``observation`` or ``action``."""
    index: int
    logged: float
    replayed: float


class Replay(msgspec.Struct, kw_only=True):
    """Outcome of a replay; its JSON is what ``wpg replay --json`` writes."""

    policy_sha256: str
    complete: bool
    """Whether the log was finished; False if it ends in the middle."""
    ticks: int
    decisions: int
    equal: int = 0
    """Policy steps whose action is the same, bit for bit."""
    unequal: int = 0
    actions_unchecked: int = 0
    """Policy steps whose choice depends on an earlier action that is missing in the log."""
    observations_equal: int = 0
    """Policy steps whose observation follows bit for bit from the logged state and goal."""
    observations_unequal: int = 0
    observations_unchecked: int = 0
    """Policy steps whose state is missing in the log."""
    missing: int = 0
    """Policy steps that are missing in the log."""
    action_error_max: float = 0.0
    """Largest difference of an action, in the action's unit."""
    first_difference: Difference | None = None


def logged_artifact(recording: RunRecording, path: Path) -> Artifact:
    """The artifact that a log keeps; ``path`` is the log, which errors name.

    Raises:
        LogError: the log keeps none.
        ArtifactError: it was damaged.
    """
    content = recording.attachments.get(POLICY_FILE)
    if content is None:
        raise LogError(f"{path}: keeps no {POLICY_FILE}; give the artifact that decided")
    return artifact_from_bytes(content, path / POLICY_FILE)


def replay(recording: RunRecording, artifact: Artifact) -> Replay:
    """Feed the logged states, goals and noise to the artifact, and compare with what was logged.

    An observation is rebuilt from the newest state before its decision; of a term with history, only the
    newest part is compared. The action is computed from the logged observation, and a choice that depends on
    the previous action uses the logged one, so that no difference hides or causes another.

    Raises:
        LogError: no decisions in the log, or another artifact made them.
    """
    made_by = recording.metadata.get("policy_sha256", "")
    if made_by != artifact.digest:
        raise LogError(
            f"another artifact made this log: expected SHA-256 {made_by[:16]}…, found {artifact.digest[:16]}…"
        )
    if not len(recording.decision):
        raise LogError(
            "the log holds no decisions: the run, or the log, ended before the policy's first step"
        )
    decision = recording.decision
    numbers = decision["number"].tolist()
    found = Replay(
        policy_sha256=artifact.digest,
        complete=recording.complete,
        ticks=len(recording.timing),
        decisions=len(numbers),
        missing=numbers[-1] + 1 - len(numbers),
    )
    rebuilt = rebuilt_observations(recording, artifact.contract.interface)
    replayed = _replayed_actions(recording, artifact)
    for row, (number, observed, action) in enumerate(zip(numbers, rebuilt, replayed, strict=True)):
        logged_obs = decision["obs"][row].astype(np.float32)
        logged = decision["action"][row].astype(np.float32)
        place = number, float(decision.time_s[row])
        if observed is None:
            found.observations_unchecked += 1
        else:
            known = np.where(np.isnan(observed), logged_obs, observed)
            same = _compare(found, place, "observation", known, logged_obs)
            found.observations_equal += same
            found.observations_unequal += not same
        if action is None:
            found.actions_unchecked += 1
            continue
        same = _compare(found, place, "action", action, logged)
        found.equal += same
        found.unequal += not same
        found.action_error_max = max(found.action_error_max, float(np.abs(action - logged).max()))
    return found


def _compare(
    found: Replay, place: tuple[int, float], quantity: str, replayed: Floats, logged: Floats
) -> bool:
    """Whether two (N,) vectors have the same bits; keeps the first difference of the replay."""
    differs = np.flatnonzero(replayed.view(np.uint32) != logged.view(np.uint32))
    if differs.size and found.first_difference is None:
        index = int(differs[0])
        found.first_difference = Difference(
            decision=place[0],
            time_s=place[1],
            quantity=quantity,
            index=index,
            logged=float(logged[index]),
            replayed=float(replayed[index]),
        )
    return not differs.size


def _replayed_actions(recording: RunRecording, artifact: Artifact) -> Iterator[Floats | None]:
    """Yield for each decision the replayed action (A,); None if a needed earlier action is missing.

    Raises:
        LogError: the log does not tell which noise there was.
    """
    try:
        seed, particles = (int(recording.metadata[name]) for name in ("noise_seed", "particles"))
    except KeyError as error:
        raise LogError(f"the log does not tell its {error.args[0]}: it cannot be replayed") from error
    spec, decision = artifact.contract.sampler, recording.decision
    spec.check_particles(particles)
    generator = np.random.Generator(np.random.SFC64(seed))
    noise = np.zeros((1, particles, spec.noise_dim), np.float32)
    upcoming, previous = 0, None
    for row, (number, fresh) in enumerate(zip(decision["number"], decision["fresh"], strict=True)):
        for _ in range(upcoming, number + 1):
            generator.standard_normal(out=noise, dtype=np.float32)
        if spec.needs_previous and number > upcoming and not fresh:
            yield None
        else:
            obs = decision["obs"][row : row + 1].astype(np.float32)
            yield artifact.run(obs, noise, None if fresh else previous).action[0]
        upcoming, previous = number + 1, decision["action"][row : row + 1].astype(np.float32)


def rebuilt_observations(recording: RunRecording, interface: PolicyInterface) -> Iterator[Floats | None]:
    """Yield for each decision the rebuilt observation (obs_dim,); NaN where the log does not tell."""
    pipeline = ObservationPipeline(interface)
    newest = np.concatenate(
        [np.arange(term.size) < term.size // term.history for term in interface.observation]
    )
    period_s = 1.5 / float(recording.metadata["servo_rate_hz"])
    states, ticks, decision = recording.state, recording.timing.time_s, recording.decision
    gaps = np.diff(ticks, append=ticks[-1:]) > period_s
    for row, time_s in enumerate(decision.time_s):
        # The state is logged with the time at which it was asked for, before the decision's.
        tick = int(np.searchsorted(ticks, time_s, side="right")) - 1
        state = int(np.searchsorted(states.time_s, time_s, side="right")) - 1
        # A missing tick may be the one of the decision.
        if tick < 0 or state < 0 or time_s - ticks[tick] > period_s or gaps[tick]:
            yield None
            continue
        pipeline.reset()
        goal = np.asarray(decision["goal_m"][row], np.float64)
        opening = states["gripper_m"][state]
        measured = RobotState(
            joint_pos=states["joint_pos_rad"][state],
            joint_vel=states["joint_vel_rad_s"][state],
            joint_torque=states["joint_torque_nm"][state],
            time_s=0.0,
            sequence=0,
            gripper_m=float(opening[0]) if len(opening) else None,
        )
        obs = pipeline.observe(
            measured,
            goal if goal.size else None,
            _external(recording, interface, time_s),
            target=decision["joint_target_rad"][row],
        )
        yield np.where(newest, obs, np.float32(np.nan))


def _external(recording: RunRecording, interface: PolicyInterface, time_s: float) -> dict[str, Vector]:
    """Values of the terms from outside at a time; NaN if the log may have lost the newest reading."""
    values = {}
    for name, size in interface.external.items():
        values[name] = np.full(size, np.nan)
        series = recording.sources.get(name)
        row = -1 if series is None else int(np.searchsorted(series.time_s, time_s, side="right")) - 1
        if series is None or row < 0:
            continue
        following = series["number"][row + 1 : row + 2]
        if not following.size or following[0] == series["number"][row] + 1:
            values[name] = series["value"][row]
    return values
