"""Loads an artifact, and checks that it is whole and fits its own contract.

This module needs only numpy, msgspec and onnxruntime, because it runs on the robot's computer.
"""

from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort

from wpg.export.artifact import Artifact, shape_text
from wpg.export.contract import Contract, decode_contract, graph_inputs, graph_outputs
from wpg.export.digest import (
    DIGEST_KEY,
    SIGNATURE_KEY,
    actual_digest,
    is_sealed,
    is_signed,
    is_signed_with,
    stored_digest,
)
from wpg.export.errors import ContractError, CorruptArtifactError, SignatureError
from wpg.export.onnx_header import IR_VERSION, OPSETS, read_header

CONTRACT_KEY = "wpg.contract"
MCAP = b"\x89MCAP0\r\n"
"""How a run log begins."""


def load_artifact(path: Path | str, key: bytes | None = None) -> Artifact:
    """Load an artifact from its file.

    Args:
        path: the file.
        key: shared secret that the file must have been signed with; None checks no signature.

    Raises:
        CorruptArtifactError: the file cannot be read, is no artifact, is truncated or was edited.
        SignatureError: the file is not signed with the key.
        ContractError: the contract cannot be read, or the graph does not fit it.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    return artifact_from_bytes(data, path, key)


def artifact_from_bytes(data: bytes, path: Path, key: bytes | None = None) -> Artifact:
    """Artifact from a file's content; ``path`` is what the errors name."""
    digest = _checked_digest(data, path)
    signed = is_signed(data)
    if key is not None and not is_signed_with(data, key):
        found = "one made with another key" if signed else "none"
        raise SignatureError(f"{path}: expected a signature made with the given key, found {found}")
    _check_header(data, path, signed=signed)
    loaded = _load(data, path)
    try:
        contract = decode_contract(loaded.metadata[CONTRACT_KEY])
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error
    _check_graph(loaded, contract, path)
    return Artifact(path, contract, digest, loaded.session, signed=signed)


def _checked_digest(data: bytes, path: Path) -> str:
    if data.startswith(MCAP):
        raise CorruptArtifactError(
            f"{path}: expected a wpg artifact, found a run log, which `wpg plot` and `wpg replay` read"
        )
    if not is_sealed(data):
        if CONTRACT_KEY.encode() not in data:
            raise CorruptArtifactError(
                f"{path}: expected a wpg artifact, found {len(data)} bytes without a contract"
            )
        raise CorruptArtifactError(f"{path}: expected a digest at the end, found none: truncated or edited")
    stored, actual = stored_digest(data), actual_digest(data)
    if stored != actual:
        raise CorruptArtifactError(
            f"{path}: edited or damaged: expected SHA-256 {stored[:16]}…, found {actual[:16]}…"
        )
    return actual


def _check_header(data: bytes, path: Path, *, signed: bool) -> None:
    """Check that the file has the ONNX version, operator set and metadata keys that wpg writes."""
    try:
        header = read_header(data)
    except ValueError as error:
        raise CorruptArtifactError(f"{path}: no ONNX model: {error}") from error
    for name, found, expected in (
        ("ONNX IR version", header.ir_version, IR_VERSION),
        ("operator sets", header.opsets, OPSETS),
    ):
        if found != expected:
            raise ContractError(f"{path}: {name}: expected {expected}, found {found}: export it with wpg")
    entries = (CONTRACT_KEY, *[SIGNATURE_KEY] * signed, DIGEST_KEY)
    if header.metadata != entries:
        known, there = (", ".join(names) for names in (entries, header.metadata))
        raise CorruptArtifactError(f"{path}: metadata: expected {known}, found {there}")


class _Loaded(NamedTuple):
    session: Any
    metadata: dict[str, str]
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def _load(data: bytes, path: Path) -> _Loaded:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        return _Loaded(
            session,
            session.get_modelmeta().custom_metadata_map,
            {node.name: node for node in session.get_inputs()},
            {node.name: node for node in session.get_outputs()},
        )
    except Exception as error:  # the exceptions of onnxruntime have no common base class
        raise CorruptArtifactError(
            f"{path}: onnxruntime {ort.__version__} cannot load it: {' '.join(str(error).split())}"
        ) from error


def _check_graph(loaded: _Loaded, contract: Contract, path: Path) -> None:
    """Check that the graph has exactly the inputs and outputs of the contract."""
    size = contract.interface.action.size
    expected_inputs = graph_inputs(contract.interface.obs_dim, size, contract.sampler)
    expected_outputs = graph_outputs(size)
    for kind, found, expected in (
        ("input", loaded.inputs, expected_inputs),
        ("output", loaded.outputs, expected_outputs),
    ):
        if found.keys() != expected.keys():
            raise ContractError(f"{path}: graph {kind}s: expected {sorted(expected)}, found {sorted(found)}")
        for name, shape in expected.items():
            node = found[name]
            dims = tuple(node.shape)
            if node.type != "tensor(float)" or dims != shape:
                raise ContractError(
                    f"{path}: graph {kind} {name}: expected tensor(float) {shape_text(shape)}, "
                    f"found {node.type} {shape_text(dims)}"
                )
