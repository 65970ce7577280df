"""Errors of artifacts.

::

    ArtifactError (ValueError)
    ├── CorruptArtifactError     the file is not what was written: truncated, edited, not ONNX
    ├── SignatureError           the file is not signed with the key that was asked for
    ├── ContractError            the file is whole, but its contract does not fit: version, shapes, robot
    └── ParityError              the graph does not compute what the policy computes; nothing was written
"""


class ArtifactError(ValueError):
    """Base class of all errors of artifacts."""


class CorruptArtifactError(ArtifactError):
    """The file is not what was written: truncated, edited, or not an artifact at all."""


class ContractError(ArtifactError):
    """The file is whole, but its contract does not fit the robot, the policy or this version."""


class SignatureError(ArtifactError):
    """The file is not signed, or not with the key that was asked for."""


class ParityError(ArtifactError):
    """The exported graph does not compute what the policy computes."""
