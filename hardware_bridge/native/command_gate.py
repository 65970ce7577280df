"""Decides whether a device follows a command; used by every device behind native frames."""

import numpy as np

from wpg.hardware_bridge.axes import axis_names
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.limit_checker import LimitChecker
from wpg.hardware_bridge.protocols.framing import is_ahead
from wpg.hardware_bridge.protocols.native import Refusal
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.witness import Witness

_REFUSALS = {
    "not_finite": Refusal.NOT_FINITE,
    "position": Refusal.POSITION_LIMIT,
    "velocity": Refusal.VELOCITY_LIMIT,
}


class CommandGate:
    """Accepts commands that an armed device may follow, and counts the others by reason.

    Args:
        description: the robot's limits.
        witness: counts the commands.
        resolution_rad: resolution of the positions that arrive.
        gripper: whether commands have the opening of a gripper after the joints.
    """

    def __init__(
        self,
        description: RobotDescription,
        witness: Witness,
        resolution_rad: float = 0.0,
        *,
        gripper: bool = False,
    ) -> None:
        self._num_joints = description.num_joints
        self._num_axes = len(axis_names(description, gripper=gripper))
        self._witness = witness
        self.checker = LimitChecker(description, resolution_rad, gripper=gripper)
        self._armed_at: Vector | None = None
        self.tick = 0
        """Number of the servo period of the last command that was followed."""
        self._ticking = False
        """Whether a command has been followed since the start."""
        self.refusal = Refusal.NONE
        """Why the last command was not followed."""

    def start(self, joint_pos: Vector) -> bool:
        """Begin anew with an arm at rest at ``joint_pos`` (num_axes,); False if that is not finite."""
        if not np.isfinite(joint_pos).all():
            self.refusal = Refusal.NOT_FINITE
            return False
        self.checker.start(joint_pos)
        self._armed_at = joint_pos
        self._ticking = False
        self.refusal = Refusal.NONE
        return True

    def stop(self) -> None:
        """The device was ordered to stop."""
        self.refusal = Refusal.STOPPED

    def lets_pass(
        self, joint_pos: Vector, joint_vel: Vector, tick: int, *, measured: Vector, armed: bool
    ) -> bool:
        """Whether a device that measures ``measured`` (num_joints,) rad may follow; counts the command."""
        if not armed:
            return self.refuse(Refusal.STOPPED if self.refusal is Refusal.STOPPED else Refusal.NOT_ARMED)
        if len(joint_pos) != self._num_axes:
            return self.refuse(Refusal.WRONG_SIZE)
        if not np.isfinite(measured).all():
            return self.refuse(Refusal.NOT_FINITE)
        if self._ticking and not is_ahead(tick, self.tick):
            # Ticks that do not count up would let every command move by a whole period's way.
            return self.refuse(Refusal.VELOCITY_LIMIT)
        outside = self.checker.check(joint_pos, joint_vel, tick)
        # Too much acceleration is counted but followed: refusing it would only make the next command worse.
        refusals = [_REFUSALS[kind] for kind in outside if kind in _REFUSALS]
        self.refusal = refusals[0] if refusals else Refusal.NONE
        self._witness.saw_command(self.refusal, outside)
        if refusals:
            return False
        self.accept(joint_pos, tick)
        return True

    def accept(self, joint_pos: Vector, tick: int) -> None:
        """Note that the device follows a command."""
        self.checker.accept(joint_pos, tick)
        self.tick, self._ticking = tick, True
        if self._armed_at is not None:
            step_rad = float(np.abs(joint_pos - self._armed_at)[: self._num_joints].max())
            self._witness.first_step_rad_max = max(self._witness.first_step_rad_max, step_rad)
            self._armed_at = None

    def refuse(self, refusal: Refusal) -> bool:
        """Count a command that is not followed; returns False."""
        self.refusal = refusal
        self._witness.saw_command(refusal, ())
        return False
