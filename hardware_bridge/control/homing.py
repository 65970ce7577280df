"""Homing: leads the arm to where a goal may begin, and waits until a misplaced object has been put back."""

from collections.abc import Callable

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.lifecycle import Lifecycle
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.policy_runner import PolicyRunner
from wpg.hardware_bridge.control.soft_start import SoftStart
from wpg.hardware_bridge.control.start_conditions import StartConditions
from wpg.hardware_bridge.phase import Phase
from wpg.hardware_bridge.robot import RobotState, Vector

HOME_RAD = 1e-3
"""A joint whose command is within this of its home position is home."""
RISES_MAX = 5
"""At most this many steps up, and as many down: an arm may be unable to get as high as its tool's box."""
STALLED_S = 5.0
"""Homing ends the run when the commands have come no nearer to their target for this long."""
PutBack = Callable[[str], bool]
"""Called at every tick while an object lies outside the area that goals may begin in.

It is told what is wrong, or "" once nothing is wrong any more. True lets the arm go on.
"""


class Homing:
    """Leads the run to :attr:`Phase.RUNNING`, through homing and waiting where they are needed.

    Args:
        runner: runs the policy.
        start: the conditions under which a goal may begin.
        motion: moves the arm.
        soft_start: sets the pace of the arm.
        lifecycle: holds the phase.
        put_back: sees to objects that lie elsewhere; if None, such an object ends the run.
        end: ends the run, with a reason and a message.
    """

    def __init__(
        self,
        runner: PolicyRunner,
        start: StartConditions,
        motion: Motion,
        soft_start: SoftStart,
        lifecycle: Lifecycle,
        *,
        put_back: PutBack | None,
        end: Callable[[str, str], None],
        clock: Clock,
    ) -> None:
        self._runner = runner
        self._start = start
        self._motion = motion
        self._soft_start = soft_start
        self._lifecycle = lifecycle
        self._put_back = put_back
        self._end = end
        self._clock = clock
        self._descents = self._rises = 0
        """Steps down and up that are left."""
        self._nearest_rad, self._nearer_s = np.inf, 0.0
        """Smallest distance of the commands from their target so far, and when they came that near."""
        self._lets_go = False
        """Whether the gripper has still to be opened."""
        self._trouble = ""
        """What is wrong with the place of an object that somebody has to put back; empty if nothing is."""
        self.homings = 0
        """How often the arm was homed."""
        self.put_backs = 0
        """How often an object was put back."""

    def begin(self, state: RobotState, reason: str = "") -> None:
        """Let the policy start from here if the start conditions allow it; otherwise home the arm.

        Once an object has been misplaced, the arm waits until ``put_back`` agrees, even if a hold came in
        between: a hand may still be at the object.
        """
        place = self._runner.achieved_pos(state)
        if self._put_back is not None:
            self._trouble = self._start.misplaced(place) or self._trouble
        if not self._trouble and self._start.allow(state, place):
            self._lifecycle.enter(Phase.RUNNING, reason)
        else:
            self.homings += 1
            self._runner.reset()
            self._descents = self._rises = RISES_MAX
            self._nearest_rad, self._nearer_s = np.inf, self._clock.now()
            self._lets_go = not self._start.is_open(state)
            if self._lets_go:
                # Come to rest first: what the gripper holds, and how high, is looked at there.
                self._head_for(self._motion.stop_pos)
            else:
                self._set_off(state)
            self._lifecycle.enter(Phase.HOMING, reason)

    def go_on(self, state: RobotState | None, *, seen: bool) -> None:
        """Do one tick of homing or of waiting.

        Args:
            state: measured state; None if none came in time.
            seen: whether the last reading of the object is recent enough.
        """
        if self._lifecycle.phase is Phase.WAITING:
            self._wait(state, seen=seen)
            return
        self._soft_start.grow()
        if self._stalls():
            self._end("homing_stalled", f"no nearer to the start for {STALLED_S:g} s: {self._where()}")
            return
        there = np.allclose(self._motion.joint_pos, self._motion.target, atol=HOME_RAD)
        if state is None or not (there and self._motion.at_rest and self._motion.gripper_is_there):
            return
        at_start = np.allclose(self._motion.target, self._start.joint_pos, atol=HOME_RAD)
        if at_start and not self._lets_go:
            self._arrive(state)
        else:
            self._set_off(state)

    def _set_off(self, state: RobotState) -> None:
        """Head for the next target: down to put down what is held, up from the table, then to the start."""
        if self._lets_go:
            place = self._runner.achieved_pos(state)
            down = self._start.way_down(self._motion.joint_pos, place) if self._descents > 0 else None
            self._descents -= 1
            if down is None:
                self._lets_go = False
                self._motion.set_opening(np.inf)
            else:
                self._head_for(down)
            return
        up = self._start.way_up(self._motion.joint_pos) if self._rises > 0 else None
        self._rises -= 1
        self._head_for(self._start.joint_pos if up is None else up)

    def _head_for(self, target: Vector) -> None:
        """Set the target; only a new one restarts the count of progress, not the same one once more."""
        before = self._motion.target
        self._motion.set_target(target)
        if not np.allclose(self._motion.target, before, atol=HOME_RAD):
            self._nearest_rad = np.inf

    def _stalls(self) -> bool:
        """Whether there has been no progress for too long.

        That happens if a driver sends less than it is told, or if the start lies outside the limits.
        """
        left_rad = float(np.abs(self._motion.target - self._motion.joint_pos).max())
        if left_rad < self._nearest_rad - HOME_RAD or not self._motion.gripper_is_there:
            self._nearest_rad, self._nearer_s = left_rad, self._clock.now()
        return self._clock.now() - self._nearer_s > STALLED_S

    def _where(self) -> str:
        """Names the joint that is farthest from the start."""
        there, start = self._motion.joint_pos, self._start.joint_pos
        index = int(np.abs(start - there).argmax())
        return (
            f"joint {index + 1} of {len(start)} stays at {there[index]:.4f}, expected {start[index]:.4f} rad"
        )

    def _arrive(self, state: RobotState) -> None:
        """The arm is home: run the policy, wait for an object to be put back, or end the run."""
        trouble = self._start.misplaced(self._runner.achieved_pos(state)) or self._trouble
        if not trouble:
            self._lifecycle.enter(Phase.RUNNING)
        elif self._put_back is None:
            self._end("out_of_reach", trouble)
        else:
            self._trouble = trouble
            self._put_back(trouble)
            self._lifecycle.enter(Phase.WAITING, trouble)

    def _wait(self, state: RobotState | None, *, seen: bool) -> None:
        """Stand until the object is seen at rest where it should be, and ``put_back`` lets the arm go on."""
        if state is None or self._put_back is None:
            return
        place = self._runner.achieved_pos(state)
        trouble = self._start.misplaced(place)
        rests = self._start.rests(place, self._clock.now())
        if self._put_back(trouble) and not trouble and rests and seen:
            self._trouble = ""
            self.put_backs += 1
            self._soft_start.begin()
            self._lifecycle.enter(Phase.RUNNING, "put back")
