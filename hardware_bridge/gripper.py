"""The setpoint of a gripper's opening, for the control loop and the simulators."""

import numpy as np

from wpg.hardware_bridge.description import GripperDescription


class GripperSetpoint:
    """Moves an opening towards a target, within the gripper's speed and range.

    Args:
        gripper: range and speed.
        opening_m: present opening.
    """

    def __init__(self, gripper: GripperDescription, opening_m: float) -> None:
        self._widest_m, self._speed_m_s = gripper.opening_max_m, gripper.speed_max_m_s
        self._rounding_m = float(np.spacing(np.float32(gripper.opening_max_m)))
        self.start(opening_m)

    def start(self, opening_m: float) -> None:
        """Stand still at an opening."""
        self.opening_m = self.target_m = self._inside(opening_m)

    def set_target(self, opening_m: float) -> None:
        """Head for an opening, clipped to the range; ``inf`` opens the gripper fully."""
        self.target_m = self._inside(opening_m)

    @property
    def is_there(self) -> bool:
        """Whether the target is reached."""
        return self.opening_m == self.target_m

    def step(self, duration_s: float) -> float:
        """The opening after ``duration_s``. Slightly slower than allowed, as float32 rounding may add."""
        furthest_m = max(self._speed_m_s * duration_s - self._rounding_m, 0.0)
        self.opening_m += min(max(self.target_m - self.opening_m, -furthest_m), furthest_m)
        return self.opening_m

    def _inside(self, opening_m: float) -> float:
        return min(max(opening_m, 0.0), self._widest_m)
