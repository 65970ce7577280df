"""From an artifact to a moving arm: links, device protocols, safety, the real-time loop, the emulator.

Runs without torch and without a simulator.

Exceptions::

    BridgeError (RuntimeError)
    ├── DescriptionError (ValueError)     a robot's description does not hold together
    ├── LinkError (ConnectionError)       the link cannot be opened, or has died
    │   └── LinkUrlError (ValueError)     the link's URL cannot be read
    ├── ProtocolError                     the device answers, but not as this protocol or this robot
    │   └── FrameError (ValueError)       bytes that are no frame
    ├── StaleStateError (TimeoutError)    no fresh state arrived in time
    ├── LifecycleError                    a step that the run's present phase does not allow
    └── LogError (OSError)                the run log cannot be written or read

An artifact that does not fit the robot raises :class:`wpg.export.ContractError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from wpg.hardware_bridge.errors import (
    BridgeError,
    DescriptionError,
    FrameError,
    LifecycleError,
    LinkError,
    LinkUrlError,
    LogError,
    ProtocolError,
    StaleStateError,
)

if TYPE_CHECKING:
    from wpg.hardware_bridge.description import (
        RobotDescription,
        available_robots,
        load_description,
        shipped_robots,
    )
    from wpg.hardware_bridge.doctor import diagnose
    from wpg.hardware_bridge.emergency import EmergencyStop
    from wpg.hardware_bridge.emulation.emulator import Emulator
    from wpg.hardware_bridge.emulation.faults import FaultSpec, FaultyLink, parse_faults
    from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
    from wpg.hardware_bridge.franka.robot import FrankaRobot
    from wpg.hardware_bridge.joint_check import check_joints
    from wpg.hardware_bridge.keys import read_key, write_key
    from wpg.hardware_bridge.lerobot_robot import LeRobotRobot
    from wpg.hardware_bridge.loop import ControlLoop
    from wpg.hardware_bridge.loop_config import LoopConfig, load_safety
    from wpg.hardware_bridge.native_robot import NativeRobot
    from wpg.hardware_bridge.realtime import RealtimeConfig
    from wpg.hardware_bridge.report import RunReport
    from wpg.hardware_bridge.robot import JointCommand, Robot, RobotState, RobotStatus, StopMode
    from wpg.hardware_bridge.run_log.reader import RunRecording, read_log
    from wpg.hardware_bridge.safety import SafetyConfig
    from wpg.hardware_bridge.servos.calibration import load_calibration
    from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
    from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot
    from wpg.hardware_bridge.session import open_robot, run_policy
    from wpg.hardware_bridge.sources.link import LinkSource
    from wpg.hardware_bridge.sources.local import LocalSource
    from wpg.hardware_bridge.sources.sender import PoseSender, SourceSender
    from wpg.hardware_bridge.sources.source import Reading, Source

# Loaded when first asked for: a training process that wants a description needs neither links nor runtime.
_MODULES = {
    "ControlLoop": "loop",
    "DynamixelRobot": "servos.dynamixel_robot",
    "EmergencyStop": "emergency",
    "Emulator": "emulation.emulator",
    "FaultSpec": "emulation.faults",
    "FaultyLink": "emulation.faults",
    "FeetechRobot": "servos.feetech_robot",
    "FrankaRobot": "franka.robot",
    "JointCommand": "robot",
    "KinematicRobot": "emulation.kinematic_robot",
    "LeRobotRobot": "lerobot_robot",
    "LinkSource": "sources.link",
    "LocalSource": "sources.local",
    "LoopConfig": "loop_config",
    "NativeRobot": "native_robot",
    "PoseSender": "sources.sender",
    "Reading": "sources.source",
    "RealtimeConfig": "realtime",
    "Robot": "robot",
    "RobotDescription": "description",
    "RobotState": "robot",
    "RobotStatus": "robot",
    "RunRecording": "run_log.reader",
    "RunReport": "report",
    "SafetyConfig": "safety",
    "Source": "sources.source",
    "SourceSender": "sources.sender",
    "StopMode": "robot",
    "available_robots": "description",
    "check_joints": "joint_check",
    "diagnose": "doctor",
    "load_calibration": "servos.calibration",
    "load_description": "description",
    "load_safety": "loop_config",
    "open_robot": "session",
    "parse_faults": "emulation.faults",
    "read_key": "keys",
    "read_log": "run_log.reader",
    "run_policy": "session",
    "shipped_robots": "description",
    "write_key": "keys",
}

__all__ = [
    "BridgeError",
    "ControlLoop",
    "DescriptionError",
    "DynamixelRobot",
    "EmergencyStop",
    "Emulator",
    "FaultSpec",
    "FaultyLink",
    "FeetechRobot",
    "FrameError",
    "FrankaRobot",
    "JointCommand",
    "KinematicRobot",
    "LeRobotRobot",
    "LifecycleError",
    "LinkError",
    "LinkSource",
    "LinkUrlError",
    "LocalSource",
    "LogError",
    "LoopConfig",
    "NativeRobot",
    "PoseSender",
    "ProtocolError",
    "Reading",
    "RealtimeConfig",
    "Robot",
    "RobotDescription",
    "RobotState",
    "RobotStatus",
    "RunRecording",
    "RunReport",
    "SafetyConfig",
    "Source",
    "SourceSender",
    "StaleStateError",
    "StopMode",
    "available_robots",
    "check_joints",
    "diagnose",
    "load_calibration",
    "load_description",
    "load_safety",
    "open_robot",
    "parse_faults",
    "read_key",
    "read_log",
    "run_policy",
    "shipped_robots",
    "write_key",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
