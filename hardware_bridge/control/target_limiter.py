"""Limits the policy's joint targets: to the workspace of the tool, and while the policy is unsure."""

from collections import Counter

import numpy as np

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.control.safety import SafetyConfig
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import BridgeError
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.robot import Vector

WORKSPACE_MARGIN_M = 0.005
"""The tool may come to rest this far outside its box, because braking joints do not move it straight."""
CUT_STEPS = 7
"""Bisection steps that find where the way to a target outside the box leaves it."""
SHARE_GROWTH = 0.1
"""The share of the way that a policy may go grows by this much per step after it was unsure."""


class TargetLimiter:
    """Shortens a policy's moves at the edge of the tool's box, and while its particles are far apart.

    Both limits are continuous in the target, so that the arm does not chatter: a policy that heads out of the
    box comes to rest at its edge, and one that grows unsure slows down before it stands still.

    Args:
        description: the arm.
        config: the box, and the particle spreads between which the arm slows down to a stop.
    """

    def __init__(self, description: RobotDescription, config: SafetyConfig) -> None:
        self._kinematics = ForwardKinematics(description.kinematics())
        self._box = None if config.workspace_m is None else np.array(config.workspace_m)
        self._slow, self._hold = config.spread_slow, config.spread_hold
        self._share = 1.0
        self.events: Counter[str] = Counter()
        """Number of policy steps that were shortened, by cause."""

    def check_start(self, joint_pos: Vector, margin_m: float = 0.0) -> None:
        """Check that the tool is at most ``margin_m`` outside its box, at ``joint_pos`` (num_joints,) rad.

        Raises:
            BridgeError: it is farther outside; says where it is and where it should be.
        """
        if self._box is not None and not self.is_inside(joint_pos, margin_m):
            tool = np.round(self._kinematics.tool_position(joint_pos), 3).tolist()
            low, high = self._box.tolist()
            raise BridgeError(f"workspace: expected the tool between {low} and {high} m, found it at {tool}")

    def is_inside(self, joint_pos: Vector, margin_m: float = 0.0) -> bool:
        """Whether the tool is at most ``margin_m`` outside its box, at ``joint_pos`` (num_joints,) rad."""
        return self._box is None or self._outside_m(joint_pos) <= margin_m

    def shorten(self, target: Vector, joint_pos: Vector, spread: float) -> Vector:
        """The target, or the farthest point on the way to it that is allowed, (num_joints,) rad.

        Args:
            target: (num_joints,) rad, the policy's joint target.
            joint_pos: (num_joints,) rad, last commanded.
            spread: spread of the policy's particles, in the action's unit.
        """
        share = self._sure_share(spread)
        if share < 1.0:
            target = joint_pos + share * (target - joint_pos)
        return self._inside(target, joint_pos)

    def hazard(self, joint_pos: Vector, stop_pos: Vector) -> Hazard | None:
        """Whether the tool will leave the box even if the arm brakes now.

        Args:
            joint_pos: (num_joints,) rad, last commanded.
            stop_pos: (num_joints,) rad, where braking would end.
        """
        if self._box is None:
            return None
        outside_m = self._outside_m(stop_pos)
        if outside_m <= WORKSPACE_MARGIN_M or outside_m <= self._outside_m(joint_pos) + 1e-4:
            return None
        return Hazard("workspace", f"the tool is about to leave its box by {outside_m * 1e3:.0f} mm")

    def _sure_share(self, spread: float) -> float:
        """``clip((hold - spread) / (hold - slow), 0, 1)``, which falls at once and grows back slowly."""
        if self._slow is None or self._hold is None:
            return 1.0
        share = min(1.0, max(0.0, (self._hold - spread) / (self._hold - self._slow)))
        self._share = min(share, self._share + SHARE_GROWTH)
        if self._share < 1.0:
            self.events["unsure"] += 1
        return self._share

    def _inside(self, target: Vector, joint_pos: Vector) -> Vector:
        """The farthest point found inside the box on the way from ``joint_pos`` to ``target``."""
        if self.is_inside(target):
            return target
        self.events["workspace_edge"] += 1
        share, outer = 0.0, 1.0
        for _ in range(CUT_STEPS):
            middle = (share + outer) / 2
            if self.is_inside(joint_pos + middle * (target - joint_pos)):
                share = middle
            else:
                outer = middle
        return joint_pos + share * (target - joint_pos)

    def _outside_m(self, joint_pos: Vector) -> float:
        """Distance of the tool from its box; 0 or less inside the box."""
        assert self._box is not None
        tool = self._kinematics.tool_position(joint_pos)
        return float(np.maximum(self._box[0] - tool, tool - self._box[1]).max())
