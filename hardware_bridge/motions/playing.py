"""Plays a planned motion on a robot and records it, as ``wpg identify`` does before it computes."""

from collections.abc import Callable
from functools import partial

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.control.target_limiter import WORKSPACE_MARGIN_M
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.motions.excitation import MotionPath
from wpg.hardware_bridge.motions.moving import Mover
from wpg.hardware_bridge.robot import JointCommand, Robot, Vector
from wpg.hardware_bridge.run_log.recorder import Recorder

HOMING_PACE = 0.3
HOMING_MAX_S = 60.0
REST_S = 0.5


def play_path(
    robot: Robot,
    path: MotionPath,
    recorder: Recorder,
    *,
    clock: Clock | None = None,
    safety: SafetyConfig | None = None,
    should_stop: Callable[[], str] = lambda: "",
    emergency: EmergencyStop | None = None,
) -> int:
    """Go slowly to the start of the path, rest, follow the path, and hold at its end.

    Every setpoint passes the safety filter; every hazard ends the motion.

    Args:
        robot: not yet connected; closed at the end.
        path: setpoints from rest to rest.
        recorder: takes every servo period.
        clock: clock of the motion.
        safety: thresholds, and the box of the tool.
        should_stop: asked at every period; any answer but "" ends the motion and says why.
        emergency: asked at every period; a request holds the arm at once, before any braking by setpoints.

    Returns:
        Number of setpoints outside the robot's limits, by a check that is independent of the filter.

    Raises:
        BridgeError: the robot cannot be reached, or the path leaves the tool's box, before anything moved;
            or the motion was ended, and the arm was brought to rest and told to hold. If that is not
            confirmed, the message says so.
    """
    mover = Mover(
        robot,
        recorder=recorder,
        clock=clock,
        safety=safety,
        should_stop=should_stop,
        emergency=emergency,
    )
    if not all(mover.limiter.is_inside(joint_pos, WORKSPACE_MARGIN_M) for joint_pos in path.joint_pos):
        raise BridgeError("workspace: the planned motion brings the tool out of its box")
    with mover.connected(), mover.armed():
        _go_to(mover, path.joint_pos[0])
        for _ in range(round(REST_S / mover.dt_s)):
            mover.tick("resting", mover.motion.follow)
        for joint_pos, joint_vel in zip(path.joint_pos, path.joint_vel, strict=True):
            command = JointCommand(joint_pos=joint_pos, joint_vel=joint_vel)
            mover.tick("playing", partial(mover.motion.play, command))
    return mover.motion.limit_violations


def _go_to(mover: Mover, joint_pos: Vector) -> None:
    motion = mover.motion
    motion.set_pace(HOMING_PACE)
    motion.set_target(joint_pos)
    for _ in range(round(HOMING_MAX_S / mover.dt_s)):
        mover.tick("homing", motion.follow)
        if motion.at_rest and np.allclose(motion.joint_pos, joint_pos, atol=1e-6):
            return
    raise BridgeError(f"the arm was not home within {HOMING_MAX_S:g} s")
