"""Driver of any robot that LeRobot supports."""

import contextlib
import itertools
import math
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.errors import (
    BridgeError,
    LinkError,
    LinkUrlError,
    NotConnectedError,
    ProtocolError,
    StaleStateError,
)
from wpg.hardware_bridge.robot import JointCommand, RobotState, RobotStatus, StopMode, Vector

EXAMPLE = "lerobot:so101_follower?port=/dev/ttyACM0&id=my_arm"
PLUGIN = "lerobot_robot_"
"""How the names of packages begin that add a robot to LeRobot."""
UNITS = {"deg": math.pi / 180, "rad": 1.0}
VELOCITY_SMOOTHING = 0.5
ATTEMPTS = 3


class LeRobotRobot:
    """Drives a LeRobot ``Robot`` by its ``get_observation`` and ``send_action``.

    Joints are found by name. Positions must be degrees, or radians if the link says so; normalised scales are
    refused, because they give no angle. LeRobot enables torque when it connects, has no watchdog, and reports
    no torques. If it reports no velocities either, they are differences of positions. Joints that the
    description does not have, such as a gripper, are held where they stand.

    Args:
        description: the arm that is expected.
        url: ``lerobot:TYPE?OPTION=VALUE&...``; options are those of the robot's configuration in LeRobot, and
            ``unit=deg|rad`` for a robot that does not say which it uses.
        make: function that makes the LeRobot robot of a type and its options.

    Raises:
        LinkUrlError: the URL cannot be read.
    """

    def __init__(
        self,
        description: RobotDescription,
        url: str,
        *,
        make: Callable[[str, dict[str, Any]], Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._description = description
        self._url = url
        self._type, self._options = _parse(url)
        self._unit = self._options.pop("unit", None)
        if self._unit not in (None, *UNITS):
            raise LinkUrlError(f"link {url!r}: unit: expected one of {', '.join(UNITS)}, found {self._unit}")
        self._make = make or make_lerobot
        self._clock = clock or RealClock()
        self._keys = tuple(f"{name}.pos" for name in description.joint_names)
        self._low = description.limits("position_min_rad")
        self._high = description.limits("position_max_rad")
        self._device: Any = None
        self._forget()

    def _forget(self) -> None:
        self._status = RobotStatus.IDLE
        self._sequence = 0
        self._last: tuple[float, Vector, Vector] | None = None
        self._sent = np.zeros(len(self._keys))
        self._others: dict[str, float] = {}
        self._rad_per_unit = UNITS["deg"]

    @property
    def description(self) -> RobotDescription:
        """Joints, limits, home, rates."""
        return self._description

    @property
    def stop_modes(self) -> frozenset[StopMode]:
        """Hold, and release if LeRobot can turn torque off."""
        releases = hasattr(getattr(self._device, "bus", None), "disable_torque")
        return frozenset({StopMode.HOLD, StopMode.RELEASE} if releases else {StopMode.HOLD})

    def connect(self) -> None:
        """Connect LeRobot's driver, and check that it has these joints in a unit of angle.

        Raises:
            LinkError: LeRobot is not installed, or does not reach the robot.
            ProtocolError: another robot, one that is not calibrated, or one with a normalised scale.
        """
        self.close()
        self._forget()
        self._device = self._open()
        if not self._device.is_calibrated:
            self.close()
            raise ProtocolError(
                f"link {self._url}: the robot is not calibrated: run `lerobot-calibrate` first"
            )
        self._others = {
            key: value
            for key, value in self._observe().items()
            if key in self._device.action_features and key not in self._keys
        }

    def arm(self) -> None:
        """Hold the present position, torque on, and follow commands from now on.

        Raises:
            StaleStateError: the robot does not answer.
            LinkError: it is gone.
        """
        # Set before the call, because if it fails, some motors may have torque.
        self._status = RobotStatus.ARMED
        self._insist(self._hold)

    def read(self) -> RobotState:
        """Positions as LeRobot observes them.

        Raises:
            StaleStateError: the observation failed.
            LinkError: the robot is gone.
        """
        now_s = self._clock.now()
        observed = self._observe()
        joint_pos = np.array([observed[key] for key in self._keys]) * self._rad_per_unit
        self._sequence += 1
        velocity = self._velocity(observed, joint_pos, now_s)
        if np.isfinite(velocity).all():  # the smoothing would keep NaN for ever
            self._last = (now_s, joint_pos, velocity)
        return RobotState(
            joint_pos=joint_pos,
            joint_vel=velocity,
            joint_torque=np.zeros_like(joint_pos),
            time_s=now_s,
            sequence=self._sequence,
            status=self._status,
        )

    def write(self, command: JointCommand) -> JointCommand:
        """Send a setpoint; returns what LeRobot reports as sent, or the last one sent if this one is lost.

        Raises:
            LinkError: the robot is gone.
        """
        joint_pos = np.minimum(np.maximum(command.joint_pos, self._low), self._high)
        # After a lost command the next one continues from the last that was sent; if losses go on, the states
        # show it.
        with contextlib.suppress(StaleStateError):
            self._send(joint_pos)
        return JointCommand(joint_pos=self._sent, joint_vel=np.zeros_like(self._sent))

    def stop(self, mode: StopMode) -> None:
        """Hold where the arm stands, or turn torque off.

        Raises:
            ProtocolError: this robot cannot stop in this mode.
            StaleStateError: it does not answer.
            LinkError: it is gone.
        """
        bus: Any = getattr(self._connected, "bus", None)
        if mode is StopMode.HOLD:
            self._insist(self._hold)
            self._status = RobotStatus.HOLDING
        elif mode is StopMode.RELEASE and hasattr(bus, "disable_torque"):
            self._insist(bus.disable_torque)
            self._status = RobotStatus.RELEASED
        else:
            raise ProtocolError(f"stop: {self._type} cannot {mode.name.lower()} by LeRobot; it can hold")

    def close(self) -> None:
        """Disconnect. Torque stays on unless the link says ``disable_torque_on_disconnect=true``."""
        if self._device is not None:
            device, self._device = self._device, None
            with contextlib.suppress(Exception):
                device.disconnect()

    def _open(self) -> Any:
        """Connect a robot, with retries, because LeRobot's drivers give up at the first lost answer."""
        failure: Exception | None = None
        for _ in range(ATTEMPTS):
            device = self._make(self._type, dict(self._options))
            self._check_names(device)
            self._rad_per_unit = UNITS[self._find_unit(device)]
            try:
                device.connect(calibrate=False)
            except Exception as error:  # whatever the driver and the libraries below it may raise
                failure = error
                with contextlib.suppress(Exception):
                    device.disconnect()
            else:
                return device
        raise LinkError(f"link {self._url}: {failure}") from failure

    def _hold(self) -> None:
        device = self._connected
        joint_pos = self.read().joint_pos
        if not np.isfinite(joint_pos).all():
            raise StaleStateError(f"link {self._url}: the positions to hold at are not finite: {joint_pos}")
        self._send(np.clip(joint_pos, self._low, self._high))
        bus: Any = getattr(device, "bus", None)
        if hasattr(bus, "enable_torque"):
            bus.enable_torque()

    def _insist(self, call: Callable[[], None]) -> None:
        """Do something that must succeed, and repeat it if one of its exchanges is lost."""
        for attempt in range(ATTEMPTS):
            try:
                with self._translated():
                    call()
            except StaleStateError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return

    def _observe(self) -> dict[str, float]:
        device = self._connected
        with self._translated():
            observed: dict[str, float] = device.get_observation()
        return observed

    def _send(self, joint_pos: Vector) -> None:
        device = self._connected
        values = (joint_pos / self._rad_per_unit).tolist()
        with self._translated():
            sent = device.send_action({**self._others, **dict(zip(self._keys, values, strict=True))})
        self._sent = np.array([sent[key] for key in self._keys]) * self._rad_per_unit

    def _velocity(self, observed: dict[str, float], joint_pos: Vector, now_s: float) -> Vector:
        keys = [f"{name}.vel" for name in self._description.joint_names]
        if all(key in observed for key in keys):
            return np.array([observed[key] for key in keys]) * self._rad_per_unit
        if self._last is None or now_s <= self._last[0]:
            return np.zeros_like(joint_pos)
        then_s, before, velocity = self._last
        return velocity + VELOCITY_SMOOTHING * ((joint_pos - before) / (now_s - then_s) - velocity)

    def _check_names(self, device: Any) -> None:
        found = [
            key for key, kind in device.action_features.items() if key.endswith(".pos") and kind is float
        ]
        missing = [key for key in self._keys if key not in found]
        if missing:
            raise ProtocolError(
                f"link {self._url}: joints: expected {', '.join(self._description.joint_names)}, "
                f"found {', '.join(key.removesuffix('.pos') for key in found) or 'none'}"
            )

    def _find_unit(self, device: Any) -> str:
        """The unit that the link names, or the one that the motors are set to."""
        if self._unit is not None:
            return str(self._unit)
        motors = getattr(getattr(device, "bus", None), "motors", None)
        if motors is None:
            raise ProtocolError(
                f"link {self._url}: {self._type} does not say its unit: add unit=deg or unit=rad"
            )
        for name in self._description.joint_names:
            mode = motors[name].norm_mode.name
            if mode != "DEGREES":
                raise ProtocolError(
                    f"link {self._url}: joint {name} is normalised ({mode}), which is no angle: "
                    "add use_degrees=true, and use the calibration that goes with it"
                )
        return "deg"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn a failed exchange into a stale state, or into a dead link if the robot is disconnected."""
        try:
            yield
        except BridgeError:
            raise
        except Exception as error:  # its drivers raise ConnectionError, IndexError, serial errors and others
            if self._device is None or not self._device.is_connected:
                raise LinkError(f"link {self._url}: {error}") from error
            raise StaleStateError(f"link {self._url}: {error}") from error

    @property
    def _connected(self) -> Any:
        if self._device is None:
            raise NotConnectedError
        return self._device


def make_lerobot(kind: str, options: dict[str, Any]) -> Any:
    """Make LeRobot's robot of a type.

    Raises:
        LinkError: LeRobot, or a package that this robot needs, is not installed.
        LinkUrlError: LeRobot has no such type or option.
    """
    try:
        draccus, robots = import_module("draccus"), import_module("lerobot.robots")
        _register(robots, kind)
        known = robots.RobotConfig.get_known_choices()
        if kind not in known:
            raise LinkUrlError(
                f"lerobot: no robot of type {kind!r}: expected one of {', '.join(sorted(known))}"
            )
        if hasattr(known[kind], "disable_torque_on_disconnect"):
            options = {"disable_torque_on_disconnect": False} | options
        try:
            config = draccus.decode(robots.RobotConfig, {"type": kind, **options})
        except Exception as error:  # the exceptions of draccus have no common base
            raise LinkUrlError(f"lerobot: options of {kind}: {error}; for example {EXAMPLE}") from error
        return robots.make_robot_from_config(config)
    except ModuleNotFoundError as error:
        package = "lerobot" if (error.name or "").startswith(("lerobot", "draccus")) else error.name
        raise LinkError(f"lerobot: links need {package}: pip install {package}") from error


def _register(robots: Any, kind: str) -> None:
    """Import robots until the type is known: LeRobot's own, then packages that are named as its plugins are.

    Those that need a missing package are skipped.
    """
    own = (
        f"{robots.__name__}.{module.name}" for module in pkgutil.iter_modules(robots.__path__) if module.ispkg
    )
    plugins = (module.name for module in pkgutil.iter_modules() if module.name.startswith(PLUGIN))
    for name in itertools.chain(own, plugins):
        if kind in robots.RobotConfig.get_known_choices():
            return
        with contextlib.suppress(ImportError):
            import_module(name)


def _parse(url: str) -> tuple[str, dict[str, Any]]:
    scheme, _, rest = url.partition(":")
    kind, _, query = rest.partition("?")
    if scheme != "lerobot" or not kind.isidentifier():
        raise LinkUrlError(f"link {url!r}: expected a type of LeRobot's; for example {EXAMPLE}")
    return kind, {name: _value(text) for name, text in parse_qsl(query, keep_blank_values=True)}


def _value(text: str) -> Any:
    """A number, true, false or null if the text reads as one; otherwise the text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
