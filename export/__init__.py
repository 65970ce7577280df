"""The artifact: one ONNX file that holds the particle sampler and the contract it runs under.

``contract`` and ``reader`` need numpy, msgspec and onnxruntime alone, so that they fit the robot's computer;
``writing`` (``from wpg.export.writing.writer import write_artifact``) needs torch and onnx, and runs where
the policy was trained. ``errors`` has the exceptions.
"""

import importlib
from typing import TYPE_CHECKING, Any

from wpg.export.contract import (
    CONTRACT_VERSION,
    Contract,
    GoldenVectors,
    Provenance,
    SamplerSpec,
    contract_schema,
    decode_contract,
    encode_contract,
    read_interface,
)
from wpg.export.description import Section, describe
from wpg.export.errors import ArtifactError, ContractError, CorruptArtifactError, ParityError, SignatureError
from wpg.export.interface import ActionTerm, GoalSpec, JointSpec, ObservationTerm, PolicyInterface, RobotSpec
from wpg.export.kinematics import ForwardKinematics, Frame, JointFrame, SerialChain

if TYPE_CHECKING:
    from wpg.export.artifact import Artifact, ArtifactSampler, Outputs, Sample
    from wpg.export.reader import load_artifact

_OF_ARTIFACT = ("Artifact", "ArtifactSampler", "Outputs", "Sample")

__all__ = [
    "CONTRACT_VERSION",
    "ActionTerm",
    "Artifact",
    "ArtifactError",
    "ArtifactSampler",
    "Contract",
    "ContractError",
    "CorruptArtifactError",
    "ForwardKinematics",
    "Frame",
    "GoalSpec",
    "GoldenVectors",
    "JointFrame",
    "JointSpec",
    "ObservationTerm",
    "Outputs",
    "ParityError",
    "PolicyInterface",
    "Provenance",
    "RobotSpec",
    "Sample",
    "SamplerSpec",
    "Section",
    "SerialChain",
    "SignatureError",
    "contract_schema",
    "decode_contract",
    "describe",
    "encode_contract",
    "load_artifact",
    "read_interface",
]


def __getattr__(name: str) -> Any:
    """What needs onnxruntime, on first use: environments need the contract without it."""
    if name == "load_artifact":
        return importlib.import_module("wpg.export.reader").load_artifact
    if name in _OF_ARTIFACT:
        return getattr(importlib.import_module("wpg.export.artifact"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
