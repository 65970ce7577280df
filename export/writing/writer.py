"""Writes an artifact, or refuses: nothing reaches the disk that does not compute what the policy computes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from wpg.controllers.files import replacing
from wpg.export.artifact import Artifact
from wpg.export.contract import CONTRACT_VERSION, Contract, Provenance, encode_contract
from wpg.export.digest import seal, sign
from wpg.export.interface import PolicyInterface
from wpg.export.options import AS_TRAINED, SamplerOptions
from wpg.export.reader import CONTRACT_KEY, artifact_from_bytes
from wpg.export.writing.exportable_policy import ExportablePolicy
from wpg.export.writing.golden import golden_vectors, observations_around
from wpg.export.writing.parity import Reference, check_parity


def write_artifact(
    path: Path | str,
    policy: ExportablePolicy,
    *,
    interface: PolicyInterface,
    provenance: Provenance,
    options: SamplerOptions = AS_TRAINED,
    sign_key: bytes | None = None,
) -> Artifact:
    """Write a policy as one ONNX file with its contract.

    Args:
        path: the file; it is replaced in one step, and only by an artifact that passed every check.
        policy: made by a function of :mod:`wpg.export.writing.exportable_policy`, or by
            :func:`wpg.export.writing.module.exportable_module`.
        interface: what the policy sees and commands.
        provenance: where it comes from.
        options: how its particles are drawn, refined and chosen.
        sign_key: shared secret to sign the file with.

    Returns:
        The artifact, read back from the written bytes.

    Raises:
        ContractError: policy, interface and options do not fit each other.
        ParityError: the graph does not compute what the policy computes; nothing was written.
        OSError: the file cannot be written; what was there is untouched.
    """
    path, action, rng = Path(path), interface.action, np.random.default_rng(0)
    spec = options.spec(
        action_dim=policy.action_dim, num_components=policy.num_components, temperature=policy.temperature
    )
    policy.check(interface, spec)
    reference = Reference(policy.model, action, spec)
    mean, std = policy.statistics or (np.zeros(policy.obs_dim), np.ones(policy.obs_dim))
    candidates = observations_around(mean, std, rng)
    contract = Contract(
        version=CONTRACT_VERSION,
        interface=interface,
        sampler=spec,
        provenance=provenance,
        golden=golden_vectors(reference, spec, candidates, rng),
    )
    data = _with_contract(policy.build(action, spec), contract)
    data = seal(data if sign_key is None else sign(data, sign_key))
    with replacing(path) as partial:
        partial.write_bytes(data)
        artifact = artifact_from_bytes(partial.read_bytes(), path, sign_key)
        check_parity(artifact.run, reference, candidates.reshape(-1, policy.obs_dim), rng)
        artifact.verify_golden()
    return artifact


def _with_contract(model: onnx.ModelProto, contract: Contract) -> bytes:
    helper.set_model_props(model, {CONTRACT_KEY: encode_contract(contract)})
    onnx.checker.check_model(model, full_check=True)
    encoded: bytes = model.SerializeToString()
    return encoded
