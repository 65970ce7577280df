"""Extracts from a run log the part that identification uses, and checks it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.run_log.reader import RunRecording
from wpg.sim_envs.errors import IdentificationError

GAP_S = 0.1
"""Longest allowed time between two setpoints."""
CLOCK_JUMP_S = 0.05
"""Largest allowed change of the offset between the device's and the bridge's clocks from one state to the
next."""
LENGTH_MIN_S = 5.0
"""Shortest allowed recording."""
ARMED = "ARMED"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An uninterrupted part of a run in which the arm followed setpoints, with one row per servo period."""

    time_s: Vector
    """(T,) time at which each setpoint was sent, by the device's clock, starting at 0."""
    command_pos: Vector
    """(T, num_joints) rad."""
    command_vel: Vector
    """(T, num_joints) rad/s."""
    joint_pos: Vector
    """(T, num_joints) rad, as measured just before the setpoint was sent."""
    joint_vel: Vector
    """(T, num_joints) rad/s."""
    joint_torque: Vector
    """(T, num_joints) Nm; zeros if the robot does not measure torques."""
    fresh: NDArray[np.bool_]
    """(T,) whether a measurement arrived in this period; otherwise the row repeats the last one."""

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def has_torque(self) -> bool:
        """Whether the robot measures torques."""
        return bool(self.joint_torque.any())

    def part(self, rows: slice) -> "Recording":
        """The recording's rows in a slice."""
        return Recording(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def recording_of(log: RunRecording, description: RobotDescription) -> Recording:
    """Extract the longest uninterrupted part of a log in which the arm was armed.

    Raises:
        IdentificationError: the log is of another robot, lacks channels, is too short, or has gaps or jumps
            of a clock.
    """
    _check_channels(log, description)
    ticks, states = log.command, log.state
    # A state is logged with the time of its period; a period without a state repeats the one before.
    newest = np.searchsorted(states.time_s, ticks.time_s + 1e-9, side="right") - 1
    if (newest < 0).all():
        raise IdentificationError("the log's states come after all of its commands")
    first = int(np.argmax(newest >= 0))
    newest, command_s = newest[first:], ticks.time_s[first:]
    rows = _longest(states["status"][newest] == ARMED)
    newest, command_s = newest[rows], command_s[rows]
    if len(newest) < 2 or command_s[-1] - command_s[0] < LENGTH_MIN_S:
        length_s = command_s[-1] - command_s[0] if len(newest) else 0.0
        raise IdentificationError(
            f"too short: expected at least {LENGTH_MIN_S:g} s in which the arm follows setpoints, "
            f"found {length_s:.1f} s"
        )
    device_s = states["device_time_s"][newest]
    fresh = np.abs(states.time_s[newest] - command_s) < 1e-6
    _check_clocks(command_s, states.time_s[newest], device_s)
    commands = slice(first + rows.start, first + rows.stop)
    time_s = np.interp(command_s, command_s[fresh], device_s[fresh])
    recording = Recording(
        time_s=time_s - time_s[0],
        command_pos=ticks["joint_pos_rad"][commands],
        command_vel=ticks["joint_vel_rad_s"][commands],
        joint_pos=states["joint_pos_rad"][newest],
        joint_vel=states["joint_vel_rad_s"][newest],
        joint_torque=states["joint_torque_nm"][newest],
        fresh=fresh,
    )
    for name in ("command_pos", "command_vel", "joint_pos", "joint_vel", "joint_torque"):
        if not np.isfinite(getattr(recording, name)).all():
            raise IdentificationError(f"the log's {name} holds numbers that are not finite")
    return recording


def _check_channels(log: RunRecording, description: RobotDescription) -> None:
    robot = log.metadata.get("robot")
    if robot != description.name:
        raise IdentificationError(f"the log is of another robot: expected {description.name}, found {robot}")
    for name, series in (("state", log.state), ("command", log.command)):
        if not len(series):
            raise IdentificationError(f"the log has no {name} messages: expected /state and /command")
        expected, found = (description.num_joints,), series["joint_pos_rad"].shape[1:]
        if found != expected:
            raise IdentificationError(f"the log's /{name}: expected {expected[0]} joints, found {found}")


def _longest(wanted: NDArray[np.bool_]) -> slice:
    """The longest run of True in an array (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(int)))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return slice(0, 0)
    best = int(np.argmax(stops - starts))
    return slice(int(starts[best]), int(stops[best]))


def _check_clocks(command_s: Vector, state_s: Vector, device_s: Vector) -> None:
    pauses = np.diff(command_s)
    worst = int(np.argmax(pauses))
    if pauses[worst] > GAP_S:
        raise IdentificationError(
            f"a gap: no setpoint for {pauses[worst]:.2f} s at {command_s[worst]:.2f} s of the log"
        )
    steps = np.diff(device_s)
    if (steps < 0).any():
        worst = int(np.argmin(steps))
        raise IdentificationError(
            f"a jump of the clock: the robot's goes back by {-steps[worst]:.3f} s "
            f"at {state_s[worst]:.2f} s of the log"
        )
    drift = np.abs(steps - np.diff(state_s))
    if drift.max() > CLOCK_JUMP_S:
        worst = int(np.argmax(drift))
        raise IdentificationError(
            f"a jump of the clock: the robot's parts from the bridge's by {drift[worst]:.3f} s "
            f"at {state_s[worst]:.2f} s of the log"
        )
