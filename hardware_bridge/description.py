"""Robot descriptions: joints in order, limits, home, tool, rates; read from one TOML file per robot.

A package adds a robot by an entry point with the robot's name, which leads to the path of a TOML file, to a
:class:`RobotDescription`, or to a function that returns either::

    [project.entry-points."wpg.robots"]
    my_arm = "my_package:describe"
"""

import importlib.util
import operator
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from wpg.export.interface import JointSpec, RobotSpec
from wpg.export.kinematics import Frame, JointFrame, SerialChain, require_unit
from wpg.export.record import Record, require_finite
from wpg.hardware_bridge.errors import DescriptionError

Positive = Annotated[float, msgspec.Meta(gt=0)]
ServoId = Annotated[int, msgspec.Meta(ge=0, le=252)]
GROUP = "wpg.robots"
MJCF_READER = "wpg.sim_envs.models.mjcf_description"
ProtocolName = Literal["native", "dynamixel", "feetech"]
"""Protocols that work over any link of bytes; these can be emulated."""
RobotSource = str | Mapping[str, Any]
"""A robot's name, the path of its description, or the content of one."""


class JointDescription(Record, frozen=True, kw_only=True):
    """One joint: its place in the chain and its limits."""

    name: str
    frame: Frame
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    position_min_rad: float
    position_max_rad: float
    velocity_max_rad_s: Positive
    acceleration_max_rad_s2: Positive
    jerk_max_rad_s3: Positive
    torque_max_nm: Positive
    home_rad: float

    def __post_init__(self) -> None:
        require_finite(self, f"joint {self.name}: ")
        require_unit(self.axis)
        if not self.position_min_rad < self.position_max_rad:
            raise ValueError(
                f"joint {self.name}: position_min_rad {self.position_min_rad} must be below "
                f"position_max_rad {self.position_max_rad}"
            )
        if not self.position_min_rad <= self.home_rad <= self.position_max_rad:
            raise ValueError(
                f"joint {self.name}: home_rad {self.home_rad} lies outside "
                f"[{self.position_min_rad}, {self.position_max_rad}]"
            )


def _rises(values: tuple[float, ...]) -> bool:
    return all(map(operator.lt, values, values[1:]))


class SimulationModel(Record, frozen=True, kw_only=True):
    """How the physics engines build this robot."""

    model: str
    """URDF, or MJCF if it ends in ``.xml``: a path, counted from the description's folder; ``package:path``
    for a file that a Python package ships; or ``menagerie:NAME`` for a robot of MuJoCo Menagerie."""
    base_link: str
    tool_link: str | None = None
    """Link of the model at the tool; None if the tool is where ``[tool]`` puts it on the last link."""
    tool_radius_m: Positive = 0.025
    """How far hand, flange or jaw reach sideways near the tool's tip; objects start outside of it."""
    fixed_joints_rad: dict[str, float] = msgspec.field(default_factory=dict)
    """Joints of the model that the policy does not move, with their positions (rad or m)."""
    stiffness_nm_rad: tuple[Positive, ...]
    """Position gain of each joint's servo."""
    damping_nm_s_rad: tuple[Positive, ...]
    """Velocity gain of each joint's servo."""
    step_s: Positive
    """Physics step; the servo period is a multiple of it."""


class ServoBusDescription(Record, frozen=True, kw_only=True):
    """The servos of an arm on one bus."""

    model: Literal["sts3215", "xm430-w350"]
    servos: tuple[ServoId, ...]
    """Identifier of each joint's servo."""
    others: dict[str, ServoId] = msgspec.field(default_factory=dict)
    """Servos that turn no joint. They are held where they stand, except one named ``gripper`` if there is
    a ``[gripper.servo]`` table that tells how to move it."""
    baudrate: Annotated[int, msgspec.Meta(gt=0)] = 1_000_000
    """Rate of the bus, at which a serial port is opened, and from which the deadlines of answers follow."""

    def __post_init__(self) -> None:
        ids = (*self.servos, *self.others.values())
        if len(set(ids)) != len(ids):
            raise ValueError(f"bus.servos: identifiers repeat: {', '.join(map(str, ids))}")


class GripperServo(Record, frozen=True, kw_only=True):
    """Openings of a gripper at some counts of its bus servo, linearly interpolated in between."""

    counts: tuple[Annotated[int, msgspec.Meta(ge=0, le=4095)], ...]
    openings_m: tuple[Annotated[float, msgspec.Meta(ge=0)], ...]
    """Rising."""

    def __post_init__(self) -> None:
        if len(self.counts) < 2 or len(self.counts) != len(self.openings_m):
            raise ValueError(
                f"gripper.servo: expected as many openings_m as counts, two at least, "
                f"found {len(self.openings_m)} and {len(self.counts)}"
            )
        if not (_rises(self.openings_m) and (_rises(self.counts) or _rises(self.counts[::-1]))):
            raise ValueError("gripper.servo: expected rising openings_m, and counts that rise or fall alike")


class GripperDescription(Record, frozen=True, kw_only=True):
    """A gripper whose fingers open together."""

    opening_max_m: Positive
    """Largest distance between the pads, m."""
    speed_max_m_s: Positive
    """Maximum speed of the opening, m/s."""
    force_n: Positive
    """Closing force, N."""
    servo: GripperServo | None = None
    """The gripper's servo; None if it is on no servo bus."""
    joints: tuple[str, str] | None = None
    """The fingers' sliding joints in the simulation's model; each moves by half the opening. None if the
    engines cannot move them."""
    pad_size_m: tuple[Positive, Positive, Positive] = (0.02, 0.008, 0.02)
    """Width, thickness and height of a pad."""
    pad_height_m: float = 0.0
    """Middle of the pads on the finger's link."""

    def __post_init__(self) -> None:
        require_finite(self, "gripper: ")


class RobotDescription(Record, frozen=True, kw_only=True):
    """Description of a robot. Arrays are in the order of ``joints``."""

    name: str
    title: str
    source: str
    """Publication of the figures."""
    protocol: str
    """Protocol of the arm, unless the link names another."""
    servo_rate_hz: Annotated[float, msgspec.Meta(ge=1, le=10_000)]
    """Rate at which setpoints are sent."""
    watchdog_s: Positive
    """The device holds by itself if no valid command arrives for this long."""
    motion_fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Share of the velocity, acceleration and jerk limits that setpoints use; the rest is margin."""
    joints: tuple[JointDescription, ...]
    tool: Frame
    approach: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Unit vector in the tool's frame: away from the arm, where it grasps or pushes."""
    simulation: SimulationModel | None = None
    gripper: GripperDescription | None = None
    bus: ServoBusDescription | None = None
    """The servo bus; None if the joints are not bus servos."""

    def __post_init__(self) -> None:
        require_finite(self)
        require_unit(self.approach)
        if not self.joints:
            raise ValueError(f"robot {self.name} has no joints")
        names = [joint.name for joint in self.joints]
        if len(set(names)) != len(names):
            raise ValueError(f"robot {self.name}: joint names repeat: {', '.join(names)}")
        if self.bus is not None and len(self.bus.servos) != len(self.joints):
            raise ValueError(f"bus.servos: expected {len(self.joints)} values, found {len(self.bus.servos)}")
        if self.gripper is not None and self.gripper.servo is not None:
            if self.bus is None or "gripper" not in self.bus.others:
                raise ValueError("gripper.servo: expected a servo named gripper in bus.others, found none")
            if self.gripper.servo.openings_m[-1] > self.gripper.opening_max_m:
                raise ValueError(
                    f"gripper.servo: expected openings_m up to opening_max_m {self.gripper.opening_max_m}, "
                    f"found {self.gripper.servo.openings_m[-1]}"
                )
        if self.simulation is not None:
            for field in ("stiffness_nm_rad", "damping_nm_s_rad"):
                found = len(getattr(self.simulation, field))
                if found != len(self.joints):
                    raise ValueError(f"simulation.{field}: expected {len(self.joints)} values, found {found}")
            steps = self.servo_dt_s / self.simulation.step_s
            if abs(steps - round(steps)) > 1e-9 or steps < 0.5:
                raise ValueError(
                    f"simulation.step_s: expected a divisor of the servo period {self.servo_dt_s} s, "
                    f"found {self.simulation.step_s}"
                )

    @property
    def num_joints(self) -> int:
        """Joints that the policy sees and moves."""
        return len(self.joints)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def servo_dt_s(self) -> float:
        """Time between setpoints."""
        return 1.0 / self.servo_rate_hz

    def limits(self, field: str) -> NDArray[np.float64]:
        """One field of every joint, e.g. ``limits("velocity_max_rad_s")``; (num_joints,)."""
        return np.array([getattr(joint, field) for joint in self.joints], dtype=np.float64)

    def kinematics(self) -> SerialChain:
        """The chain from base to tool."""
        joints = tuple(JointFrame(frame=joint.frame, axis=joint.axis) for joint in self.joints)
        return SerialChain(joints=joints, tool=self.tool)

    def robot_spec(self) -> RobotSpec:
        """The part of this description that a contract contains."""
        joints = tuple(JointSpec(name=name) for name in self.joint_names)
        return RobotSpec(name=self.name, joints=joints, kinematics=self.kinematics())


def shipped_robots() -> tuple[str, ...]:
    """Names of all robots that ship with wpg."""
    folder = resources.files("wpg.hardware_bridge") / "robots"
    return tuple(
        sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
    )


def brought_robots() -> tuple[str, ...]:
    """Names of all robots that other installed packages bring."""
    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def load_description(robot: RobotSource | Path) -> RobotDescription:
    """Description of a robot by name, by file or by the file's content.

    Args:
        robot: a name that ships with wpg or that another package brings; the path of a TOML file; for
            simulation, the path of an MJCF file (``.xml``) or ``menagerie:NAME``; or plain values as
            :func:`copy_description` returns them.

    Raises:
        DescriptionError: there is no such robot, or the description is invalid; names file and field.
    """
    if isinstance(robot, Path):
        robot = str(robot)
    if not isinstance(robot, str):
        try:
            return msgspec.convert(robot, RobotDescription)
        except msgspec.ValidationError as error:
            raise DescriptionError(f"robot: {error}") from error
    if robot in shipped_robots():
        text = (resources.files("wpg.hardware_bridge") / "robots" / f"{robot}.toml").read_text()
        return _decode(text, f"{robot}.toml")
    if robot.endswith(".toml"):
        return _read(Path(robot))
    if robot.endswith(".xml") or robot.startswith("menagerie:"):
        return _describe_mjcf(robot)
    for entry in entry_points(group=GROUP, name=robot):
        return _brought(entry)
    if robot.endswith(".urdf"):
        raise DescriptionError(
            f"{robot}: a URDF needs a description: give the path of a .toml file beside it that has "
            f'[simulation] model = "{Path(robot).name}"'
        )
    raise DescriptionError(
        f"unknown robot {robot!r}: expected one of {', '.join((*shipped_robots(), *brought_robots()))}, "
        "the path of a .toml file, or for simulation that of an MJCF file (.xml) or menagerie:NAME"
    )


def copy_description(file: Path) -> dict[str, Any]:
    """Content of a robot's file as plain values, with the absolute path of its model.

    Whoever keeps the copy needs the file no longer, and does not follow its changes.

    Raises:
        DescriptionError: as :func:`load_description`.
    """
    content: dict[str, Any] = msgspec.to_builtins(load_description(file.resolve()))
    return content


def _decode(text: str, origin: str) -> RobotDescription:
    try:
        return msgspec.toml.decode(text, type=RobotDescription)
    except msgspec.MsgspecError as error:
        raise DescriptionError(f"{origin}: {error}") from error


def _read(path: Path) -> RobotDescription:
    try:
        description = _decode(path.read_text(), str(path))
    except OSError as error:
        raise DescriptionError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{path}: {error}") from error
    simulation = description.simulation
    if simulation is not None and ":" not in simulation.model:
        simulation = msgspec.structs.replace(simulation, model=str(path.parent / simulation.model))
    return msgspec.structs.replace(description, simulation=simulation)


def _describe_mjcf(location: str) -> RobotDescription:
    """Read an MJCF model by ``wpg.sim_envs``, which the bridge otherwise works without."""
    if importlib.util.find_spec("mujoco") is None:
        raise DescriptionError(f"{location}: MJCF needs MuJoCo: pip install 'wpg[train]'")
    described: RobotDescription = importlib.import_module(MJCF_READER).describe(location)
    return described


def _brought(entry: EntryPoint) -> RobotDescription:
    where = f"robot {entry.name}, brought by {entry.value}"
    try:
        found = entry.load()
        found = found() if callable(found) else found
    except Exception as error:  # another package's code may raise anything
        raise DescriptionError(f"{where}: cannot be loaded: {error}") from error
    if isinstance(found, (str, Path)):
        return _read(Path(found))
    if not isinstance(found, RobotDescription):
        raise DescriptionError(
            f"{where}: expected a RobotDescription or a path, found {type(found).__name__}"
        )
    return found
