"""The only module that uses pylibfranka, which has no types and whose calls block."""

import contextlib
import math
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.errors import BridgeError, LinkError
from wpg.hardware_bridge.franka.sample import FciSample
from wpg.hardware_bridge.franka.streaming import STREAMINGS, FciMode, Streaming
from wpg.hardware_bridge.robot import JointCommand, Vector

ANSWER_WITHIN_S = 0.75e-3
"""Time to answer a state, from the earliest time at which it can have arrived."""
STALE_S = 0.5e-3
CLOCK_DRIFT_S = 1e-6
"""Largest drift between the clocks of host and robot in a millisecond."""
COMMAND_ERRORS = (
    "communication_constraints_violation",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "controller_torque_discontinuity",
)
RECOVERY_STATES = 200
"""The first states after a recovery still report the reflex."""


class FciReflexError(BridgeError):
    """The robot has stopped by itself; the message says why."""

    @property
    def is_of_commands(self) -> bool:
        """Whether commands were too late, or did not fit the robot's motion, while the arm itself is well.

        False if another reason is named as well, or none.
        """
        named = set(re.findall(r'"(\w+)"', str(self)))
        return bool(named) and named.issubset(COMMAND_ERRORS)


class FciConnection:
    """Connection to the robot at ``host``.

    Args:
        host: address of the control unit.
        module: pylibfranka, or a replacement of it.
        clock: clock by which late answers are found.
        mode: what is streamed.

    Raises:
        LinkError: pylibfranka is not installed, or nothing answers.
    """

    def __init__(
        self,
        host: str,
        module: Any = None,
        clock: Clock | None = None,
        mode: FciMode = "velocity",
    ) -> None:
        self._host = host
        self._clock = clock or RealClock()
        self.late_answers = 0
        """Number of commands that were not sent, because the robot's millisecond was over."""
        self._fci = module or _pylibfranka()
        self._control: Any = None
        self._raw: Any = None
        self._mode: FciMode = mode
        self._streaming: Streaming = STREAMINGS[mode](self._fci)
        self._behind_s = math.inf
        with self._translated():
            # Enforcing would refuse kernels without PREEMPT_RT; the gateway uses the rights it is granted.
            self._robot = self._fci.Robot(host, self._fci.RealtimeConfig.kIgnore)

    @property
    def moving(self) -> bool:
        """Whether commands are being streamed."""
        return self._control is not None

    def read(self) -> FciSample:
        """Wait for the next state.

        Raises:
            LinkError: the robot is gone.
            FciReflexError: the robot has stopped by itself.
        """
        with self._translated():
            raw = self._robot.read_once() if self._control is None else self._newest()
        self._raw = raw
        return FciSample.of(raw)

    def flange_position(self) -> NDArray[np.float64]:
        """Position of the flange as the robot reports it, (3,) m in the base frame."""
        tool, offset = (np.array(pose).reshape(4, 4).T for pose in (self._raw.O_T_EE, self._raw.F_T_EE))
        return np.asarray((tool @ np.linalg.inv(offset))[:3, 3])

    def start(self, sample: FciSample) -> Vector:
        """Begin to stream; the robot stands still until it is commanded.

        Returns:
            Position at which setpoints must begin, (7,) rad.

        Raises:
            LinkError: the robot is gone.
            FciReflexError: it refuses.
        """
        self._streaming = STREAMINGS[self._mode](self._fci)
        with self._translated():
            self._control = self._streaming.start(self._robot)
        self._behind_s = math.inf
        return self._streaming.start_pos(sample)

    def send(self, command: JointCommand, sample: FciSample, *, last: bool) -> None:
        """Stream one command, the answer to ``sample``; after the ``last`` the robot holds by itself.

        A late answer is not sent: the robot has gone on by itself meanwhile, and would check it against that.

        Raises:
            LinkError: the robot is gone.
            FciReflexError: the robot has stopped by itself.
        """
        message = self._streaming.message(command, sample)
        message.motion_finished = last
        if not last and self._behind() - self._behind_s > ANSWER_WITHIN_S:
            self.late_answers += 1
            return
        with self._translated():
            self._control.writeOnce(message)
        if last:
            self._control = None

    def recover(self) -> bool:
        """Recover from a reflex; True once the robot reports that it has.

        Raises:
            LinkError: the robot is gone.
            FciReflexError: it refuses, e.g. because its user stop is pressed.
        """
        # The robot accepts no other control object while one exists.
        self._control = None
        with self._translated():
            self._robot.automatic_error_recovery()
        return any(self.read().mode == "Idle" for _ in range(RECOVERY_STATES))

    def _newest(self) -> Any:
        """The newest state of a moving robot.

        A process that wakes up late is given the state that woke it, not the newest. The robot would check
        an answer to that state against its motion since then.
        """
        self._raw = self._control.readOnce()[0]
        behind_s = self._behind()
        if behind_s - self._behind_s > STALE_S:
            self._raw = self._control.readOnce()[0]
            self._behind_s = self._behind()
        else:
            self._behind_s = min(self._behind_s, behind_s) + CLOCK_DRIFT_S
        return self._raw

    def _behind(self) -> float:
        """Offset from the robot's clock at the last state to the host's now, s."""
        return float(self._clock.now() - self._raw.time.to_sec())

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn exceptions of libfranka into the bridge's; an aborted motion loses its control object."""
        fci = self._fci
        try:
            yield
        except (fci.ControlException, fci.CommandException, fci.InvalidOperationException) as error:
            self._control = None
            raise FciReflexError(_one_line(error)) from error
        except (fci.NetworkException, fci.RealtimeException) as error:
            self._control = None
            raise LinkError(f"link fci://{self._host}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).removeprefix("libfranka: ")


def _pylibfranka() -> Any:
    try:
        return import_module("pylibfranka")
    except ModuleNotFoundError as error:
        raise LinkError("fci: links need pylibfranka: pip install 'wpg[franka]'") from error
