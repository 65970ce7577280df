"""From an artifact to a moving arm: links, device protocols, safety, the real-time loop, the emulator.

Runs without torch and without a simulator.

Errors derive from :class:`BridgeError` (``errors`` has their tree); an artifact that does not fit the robot
raises :class:`wpg.export.ContractError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wpg.hardware_bridge.control.emergency_stop import EmergencyStop as EmergencyStop
    from wpg.hardware_bridge.control.loop import ControlLoop as ControlLoop
    from wpg.hardware_bridge.control.loop_config import LoopConfig as LoopConfig
    from wpg.hardware_bridge.control.loop_config import load_safety as load_safety
    from wpg.hardware_bridge.control.report import RunReport as RunReport
    from wpg.hardware_bridge.control.safety import SafetyConfig as SafetyConfig
    from wpg.hardware_bridge.description import RobotDescription as RobotDescription
    from wpg.hardware_bridge.description import load_description as load_description
    from wpg.hardware_bridge.description import shipped_robots as shipped_robots
    from wpg.hardware_bridge.doctor import diagnose as diagnose
    from wpg.hardware_bridge.emulation.emulator import Emulator as Emulator
    from wpg.hardware_bridge.emulation.faults import FaultSpec as FaultSpec
    from wpg.hardware_bridge.emulation.faults import FaultyLink as FaultyLink
    from wpg.hardware_bridge.emulation.faults import parse_faults as parse_faults
    from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot as KinematicRobot
    from wpg.hardware_bridge.errors import BridgeError as BridgeError
    from wpg.hardware_bridge.errors import DescriptionError as DescriptionError
    from wpg.hardware_bridge.errors import FrameError as FrameError
    from wpg.hardware_bridge.errors import LifecycleError as LifecycleError
    from wpg.hardware_bridge.errors import LinkError as LinkError
    from wpg.hardware_bridge.errors import LinkUrlError as LinkUrlError
    from wpg.hardware_bridge.errors import LogError as LogError
    from wpg.hardware_bridge.errors import NotConnectedError as NotConnectedError
    from wpg.hardware_bridge.errors import ProtocolError as ProtocolError
    from wpg.hardware_bridge.errors import StaleStateError as StaleStateError
    from wpg.hardware_bridge.franka.robot import FrankaRobot as FrankaRobot
    from wpg.hardware_bridge.keys import read_key as read_key
    from wpg.hardware_bridge.keys import write_key as write_key
    from wpg.hardware_bridge.lerobot_robot import LeRobotRobot as LeRobotRobot
    from wpg.hardware_bridge.motions.joint_check import check_joints as check_joints
    from wpg.hardware_bridge.native.robot import NativeRobot as NativeRobot
    from wpg.hardware_bridge.realtime import RealtimeConfig as RealtimeConfig
    from wpg.hardware_bridge.robot import JointCommand as JointCommand
    from wpg.hardware_bridge.robot import Robot as Robot
    from wpg.hardware_bridge.robot import RobotState as RobotState
    from wpg.hardware_bridge.robot import RobotStatus as RobotStatus
    from wpg.hardware_bridge.robot import StopMode as StopMode
    from wpg.hardware_bridge.run_log.reader import RunRecording as RunRecording
    from wpg.hardware_bridge.run_log.reader import read_log as read_log
    from wpg.hardware_bridge.servos.calibration import load_calibration as load_calibration
    from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot as DynamixelRobot
    from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot as FeetechRobot
    from wpg.hardware_bridge.session import open_robot as open_robot
    from wpg.hardware_bridge.session import run_policy as run_policy
    from wpg.hardware_bridge.sources.link import LinkSource as LinkSource
    from wpg.hardware_bridge.sources.local import LocalSource as LocalSource
    from wpg.hardware_bridge.sources.sender import PoseSender as PoseSender
    from wpg.hardware_bridge.sources.sender import SourceSender as SourceSender
    from wpg.hardware_bridge.sources.source import Reading as Reading
    from wpg.hardware_bridge.sources.source import Source as Source

# Loaded when first asked for: a training process that wants a description needs neither links nor runtime.
_MODULES = {
    "BridgeError": "errors",
    "ControlLoop": "control.loop",
    "DescriptionError": "errors",
    "DynamixelRobot": "servos.dynamixel_robot",
    "EmergencyStop": "control.emergency_stop",
    "Emulator": "emulation.emulator",
    "FaultSpec": "emulation.faults",
    "FaultyLink": "emulation.faults",
    "FeetechRobot": "servos.feetech_robot",
    "FrameError": "errors",
    "FrankaRobot": "franka.robot",
    "JointCommand": "robot",
    "KinematicRobot": "emulation.kinematic_robot",
    "LeRobotRobot": "lerobot_robot",
    "LifecycleError": "errors",
    "LinkError": "errors",
    "LinkSource": "sources.link",
    "LinkUrlError": "errors",
    "LocalSource": "sources.local",
    "LogError": "errors",
    "LoopConfig": "control.loop_config",
    "NativeRobot": "native.robot",
    "NotConnectedError": "errors",
    "PoseSender": "sources.sender",
    "ProtocolError": "errors",
    "Reading": "sources.source",
    "RealtimeConfig": "realtime",
    "Robot": "robot",
    "RobotDescription": "description",
    "RobotState": "robot",
    "RobotStatus": "robot",
    "RunRecording": "run_log.reader",
    "RunReport": "control.report",
    "SafetyConfig": "control.safety",
    "Source": "sources.source",
    "SourceSender": "sources.sender",
    "StaleStateError": "errors",
    "StopMode": "robot",
    "check_joints": "motions.joint_check",
    "diagnose": "doctor",
    "load_calibration": "servos.calibration",
    "load_description": "description",
    "load_safety": "control.loop_config",
    "open_robot": "session",
    "parse_faults": "emulation.faults",
    "read_key": "keys",
    "read_log": "run_log.reader",
    "run_policy": "session",
    "shipped_robots": "description",
    "write_key": "keys",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
