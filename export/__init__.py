"""The artefact: one ONNX file that holds the particle sampler and the contract it runs under.

``contract`` and ``reader`` need numpy, msgspec and onnxruntime alone, so that they fit the robot's computer;
``writer`` and ``graph`` need torch and onnx, and run where the policy was trained.

Exceptions::

    ArtifactError (ValueError)
    ├── CorruptArtifactError     the file is not what was written: truncated, edited, not ONNX
    ├── ContractError            the file is whole, but its contract does not fit: version, shapes, robot
    └── ParityError              the graph does not compute what the policy computes; nothing was written
"""

from wpg.export.contract import (
    ActionTerm,
    ArtifactError,
    Contract,
    ContractError,
    CorruptArtifactError,
    GoalSpec,
    JointSpec,
    ObservationTerm,
    ParityError,
    PolicyInterface,
    Provenance,
    RobotSpec,
    SamplerSpec,
)
from wpg.export.kinematics import ForwardKinematics, Frame, JointFrame, SerialChain

__all__ = [
    "ActionTerm",
    "ArtifactError",
    "Contract",
    "ContractError",
    "CorruptArtifactError",
    "ForwardKinematics",
    "Frame",
    "GoalSpec",
    "JointFrame",
    "JointSpec",
    "ObservationTerm",
    "ParityError",
    "PolicyInterface",
    "Provenance",
    "RobotSpec",
    "SamplerSpec",
    "SerialChain",
]
