"""The way to where a goal may begin: the arm goes there, and an object is put back."""

from collections.abc import Callable

import numpy as np

from wpg.hardware_bridge.clock import Clock
from wpg.hardware_bridge.control.lifecycle import Lifecycle
from wpg.hardware_bridge.control.motion import Motion
from wpg.hardware_bridge.control.policy_runner import PolicyRunner
from wpg.hardware_bridge.control.soft_start import SoftStart
from wpg.hardware_bridge.phase import Phase
from wpg.hardware_bridge.robot import RobotState, Vector

HOME_RAD = 1e-3
"""A joint that is commanded to within this of its home is home."""
RISES_MAX = 5
"""Steps upwards at most, and downwards: an arm may not get as high as its tool's box."""
STALLED_S = 5.0
"""Homing ends the run once the commands have come no nearer to where the arm goes for this long."""
PutBack = Callable[[str], bool]
"""Asked at every tick while an object lies elsewhere than in training, with what is wrong, or "" once nothing
is any more; True lets the arm go on."""


class Homing:
    """Leads the run to :attr:`Phase.RUNNING`, through homing and waiting where they are needed.

    Args:
        runner: knows where training began.
        motion: moves the arm.
        soft_start: sets its pace.
        lifecycle: holds the phase.
        put_back: sees to objects that lie elsewhere; without, they end the run.
        end: ends the run, for a reason and with a message.
    """

    def __init__(
        self,
        runner: PolicyRunner,
        motion: Motion,
        soft_start: SoftStart,
        lifecycle: Lifecycle,
        *,
        put_back: PutBack | None,
        end: Callable[[str, str], None],
        clock: Clock,
    ) -> None:
        self._runner = runner
        self._motion = motion
        self._soft_start = soft_start
        self._lifecycle = lifecycle
        self._put_back = put_back
        self._end = end
        self._clock = clock
        self._descents = self._rises = 0
        self._nearest_rad, self._nearer_s = np.inf, 0.0
        """How near the commands have come to where the arm goes, and when."""
        self._lets_go = False
        """The gripper is still to be opened."""
        self._trouble = ""
        """Where an object was that somebody has to put back; empty where nobody has to."""
        self.homings = 0
        """How often the arm went where training began."""
        self.put_backs = 0
        """How often an object was put back."""

    def begin(self, state: RobotState, reason: str = "") -> None:
        """Let the policy start from here, or go first to where it was trained to start from.

        An object that once lay elsewhere is waited for in any case, also behind a hold: a hand may be at it.
        """
        if self._put_back is not None:
            self._trouble = self._runner.misplaced(state) or self._trouble
        if not self._trouble and self._runner.may_start(state):
            self._lifecycle.enter(Phase.RUNNING, reason)
        else:
            self.homings += 1
            self._runner.reset()
            self._descents = self._rises = RISES_MAX
            self._nearest_rad, self._nearer_s = np.inf, self._clock.now()
            self._lets_go = self._runner.must_open(state)
            if self._lets_go:
                # What it holds, and how high, is seen once it stands.
                self._head_for(self._motion.stop_pos)
            else:
                self._set_off(state)
            self._lifecycle.enter(Phase.HOMING, reason)

    def go_on(self, state: RobotState | None, *, seen: bool) -> None:
        """A tick of homing, or of waiting.

        Args:
            state: as measured; None where nothing came.
            seen: whether what is known of the object is new enough.
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
        at_start = np.allclose(self._motion.target, self._runner.start_pos, atol=HOME_RAD)
        if at_start and not self._lets_go:
            self._arrive(state)
        else:
            self._set_off(state)

    def _set_off(self, state: RobotState) -> None:
        """Set down what the gripper holds and let go of it, then up from the table, and then to the start."""
        if self._lets_go:
            down = self._runner.way_down(state, self._motion.joint_pos) if self._descents > 0 else None
            self._descents -= 1
            if down is None:
                self._lets_go = False
                self._motion.set_opening(np.inf)
            else:
                self._head_for(down)
            return
        up = self._runner.way_up(self._motion.joint_pos) if self._rises > 0 else None
        self._rises -= 1
        self._head_for(self._runner.start_pos if up is None else up)

    def _head_for(self, target: Vector) -> None:
        """Another target is as far as it is; the same one once more is no progress."""
        before = self._motion.target
        self._motion.set_target(target)
        if not np.allclose(self._motion.target, before, atol=HOME_RAD):
            self._nearest_rad = np.inf

    def _stalls(self) -> bool:
        """A driver may send less than it is told, and a start may lie outside the limits."""
        left_rad = float(np.abs(self._motion.target - self._motion.joint_pos).max())
        if left_rad < self._nearest_rad - HOME_RAD or not self._motion.gripper_is_there:
            self._nearest_rad, self._nearer_s = left_rad, self._clock.now()
        return self._clock.now() - self._nearer_s > STALLED_S

    def _where(self) -> str:
        """The joint that is farthest from the start."""
        there, start = self._motion.joint_pos, self._runner.start_pos
        index = int(np.abs(start - there).argmax())
        return (
            f"joint {index + 1} of {len(start)} stays at {there[index]:.4f}, expected {start[index]:.4f} rad"
        )

    def _arrive(self, state: RobotState) -> None:
        trouble = self._runner.misplaced(state) or self._trouble
        if not trouble:
            self._lifecycle.enter(Phase.RUNNING)
        elif self._put_back is None:
            self._end("out_of_reach", trouble)
        else:
            self._trouble = trouble
            self._put_back(trouble)
            self._lifecycle.enter(Phase.WAITING, trouble)

    def _wait(self, state: RobotState | None, *, seen: bool) -> None:
        """The arm stands until the object is seen to lie where it should, and until it may go on."""
        if state is None or self._put_back is None:
            return
        trouble = self._runner.misplaced(state)
        rests = self._runner.object_rests(state, self._clock.now())
        if self._put_back(trouble) and not trouble and rests and seen:
            self._trouble = ""
            self.put_backs += 1
            self._soft_start.begin()
            self._lifecycle.enter(Phase.RUNNING, "put back")
