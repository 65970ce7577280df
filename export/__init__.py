"""The artifact: one ONNX file that holds the particle sampler and the contract it runs under.

Reading needs only numpy, msgspec and onnxruntime, so that it fits the robot's computer. Writing needs torch
and onnx and runs where the policy was trained: ``export_run`` writes a run folder, ``export_zip`` a policy of
Stable-Baselines3, and ``wpg.export.writing`` has what they are made of. ``errors`` has the exceptions.
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
from wpg.export.options import ExportOptions, SamplerOptions

if TYPE_CHECKING:
    from wpg.export.artifact import Artifact, ArtifactSampler, Outputs, Sample
    from wpg.export.reader import load_artifact
    from wpg.export.writing.runs import export_run
    from wpg.export.writing.zips import export_zip

_IMPORTED_ON_USE = {
    **dict.fromkeys(("Artifact", "ArtifactSampler", "Outputs", "Sample"), "artifact"),
    "load_artifact": "reader",
    "export_run": "writing.runs",
    "export_zip": "writing.zips",
}
"""Modules by name, imported on first use: environments need no onnxruntime, and robots have no torch."""

__all__ = [
    "CONTRACT_VERSION",
    "ActionTerm",
    "Artifact",
    "ArtifactError",
    "ArtifactSampler",
    "Contract",
    "ContractError",
    "CorruptArtifactError",
    "ExportOptions",
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
    "SamplerOptions",
    "SamplerSpec",
    "Section",
    "SerialChain",
    "SignatureError",
    "contract_schema",
    "decode_contract",
    "describe",
    "encode_contract",
    "export_run",
    "export_zip",
    "load_artifact",
    "read_interface",
]


def __getattr__(name: str) -> Any:
    """Import a name of ``_IMPORTED_ON_USE``."""
    if name in _IMPORTED_ON_USE:
        return getattr(importlib.import_module(f"wpg.export.{_IMPORTED_ON_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
