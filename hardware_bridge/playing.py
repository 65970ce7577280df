"""Plays a planned motion on a robot and records it: what ``wpg identify`` does before it can compute."""

from collections.abc import Callable
from functools import partial

import numpy as np

from wpg.hardware_bridge.checks import check_stance
from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.emergency import EmergencyStop, halt
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.excitation import MotionPath
from wpg.hardware_bridge.hazards import find_hazards
from wpg.hardware_bridge.metronome import Metronome
from wpg.hardware_bridge.motion import Motion
from wpg.hardware_bridge.parking import park
from wpg.hardware_bridge.recorder import Recorder
from wpg.hardware_bridge.robot import JointCommand, Robot, StopMode, Vector
from wpg.hardware_bridge.safety import SafetyConfig
from wpg.hardware_bridge.sensing import Sensor

HOMING_PACE = 0.3
HOMING_MAX_S = 60.0
REST_S = 0.5
BRAKING_MAX_S = 2.0
PLANNED = SafetyConfig(stale_s=0.1, overrun_s=0.1)
"""A motion that is planned to its end goes on without states for longer than a policy does."""


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
    """Go slowly to where the path begins, rest, follow it, and hold at its end.

    Every set-point passes the safety filter; whatever makes the control loop hold ends this motion.

    Args:
        robot: not yet connected; closed at the end.
        path: from rest to rest.
        recorder: takes every servo period.
        clock: the time it runs in.
        safety: thresholds.
        should_stop: asked at every period; anything but "" ends the motion and says why.
        emergency: asked at every period; a request holds the arm at once, before any braking by set-points.

    Returns:
        Set-points that left the robot's limits, by an audit that knows nothing of the filter.

    Raises:
        BridgeError: the robot cannot be reached, or the motion did not get to its end; the arm was brought
            to rest and told to hold.
    """
    clock, emergency = clock or RealClock(), emergency or EmergencyStop()
    player = _Player(robot, recorder, clock, safety or PLANNED, should_stop, emergency)
    robot.connect()
    try:
        player.arm()
        try:
            player.play(path)
        finally:
            parking = halt(robot, clock) if emergency.source else park(robot, StopMode.HOLD)
        if not parking.confirmed:
            raise BridgeError(f"the robot does not confirm that it holds: {parking.trouble}")
    finally:
        robot.close()
    return player.motion.limit_violations


class _Player:
    def __init__(  # noqa: PLR0917  private
        self,
        robot: Robot,
        recorder: Recorder,
        clock: Clock,
        safety: SafetyConfig,
        should_stop: Callable[[], str],
        emergency: EmergencyStop,
    ) -> None:
        self._emergency = emergency
        self._robot = robot
        self._recorder = recorder
        self._clock = clock
        self._safety = safety
        self._should_stop = should_stop
        self._dt_s = robot.description.servo_dt_s
        self._sensor = Sensor(robot, clock)
        self._metronome = Metronome(self._dt_s, clock)
        self._start_s = clock.now()
        self.motion = Motion(robot)

    def arm(self) -> None:
        """Arm where the robot stands."""
        check_stance(self._sensor.first(), self._robot.description)
        self._robot.arm()
        state = self._sensor.first()
        self.motion.start(state.joint_pos, state.gripper_m)
        self._metronome.restart()

    def play(self, path: MotionPath) -> None:
        """Home, rest, path; brakes before it gives up."""
        try:
            self._go_to(path.joint_pos[0])
            for _ in range(round(REST_S / self._dt_s)):
                self._tick("resting", self.motion.follow)
            for joint_pos, joint_vel in zip(path.joint_pos, path.joint_vel, strict=True):
                command = JointCommand(joint_pos=joint_pos, joint_vel=joint_vel)
                self._tick("playing", partial(self.motion.play, command))
        except BridgeError:
            if not self._emergency.source:
                self._brake()
            raise

    def _go_to(self, joint_pos: Vector) -> None:
        self.motion.set_pace(HOMING_PACE)
        self.motion.set_target(joint_pos)
        for _ in range(round(HOMING_MAX_S / self._dt_s)):
            self._tick("homing", self.motion.follow)
            if self.motion.at_rest and np.allclose(self.motion.joint_pos, joint_pos, atol=1e-6):
                return
        raise BridgeError(f"the arm was not home within {HOMING_MAX_S:g} s")

    def _tick(self, phase: str, move: Callable[[], JointCommand]) -> None:
        self._metronome.wait()
        sense_s = self._clock.now()
        state = self._sensor.read()
        hazards = find_hazards(
            self._safety,
            state,
            state_age_s=self._sensor.age_s(),
            missed_in_a_row=self._metronome.missed_in_a_row,
            sent=self.motion.joint_pos,
            dt_s=self._dt_s,
        )
        for hazard in hazards:
            raise BridgeError(f"stopped by {hazard.name}: {hazard.detail}")
        if source := self._emergency.source:
            raise BridgeError(f"emergency stop by {source}")
        if reason := self._should_stop():
            raise BridgeError(f"stopped by {reason}")
        command = move()
        self._recorder.tick(
            time_s=sense_s - self._start_s,
            phase=phase,
            state=state,
            command=command,
            lateness_s=self._metronome.last_lateness_s,
            sense_to_act_s=self._clock.now() - sense_s,
        )

    def _brake(self) -> None:
        for _ in range(round(BRAKING_MAX_S / self._dt_s)):
            self._metronome.wait()
            self.motion.brake()
            if self.motion.at_rest:
                return
