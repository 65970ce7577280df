"""Writes an artifact, or refuses: nothing reaches the disk that does not compute what the policy computes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from wpg.controllers.files import replacing
from wpg.export.artifact import Artifact, Floats
from wpg.export.contract import CONTRACT_VERSION, Contract, Provenance, encode_contract
from wpg.export.digest import seal, sign
from wpg.export.interface import PolicyInterface
from wpg.export.options import AS_TRAINED, SamplerOptions
from wpg.export.reader import CONTRACT_KEY, artifact_from_bytes
from wpg.export.writing.golden import golden_vectors, observations_around
from wpg.export.writing.parity import Reference, check_parity
from wpg.export.writing.sources import Source


def write_artifact(
    path: Path | str,
    source: Source,
    *,
    interface: PolicyInterface,
    provenance: Provenance,
    options: SamplerOptions = AS_TRAINED,
    observations: Floats | None = None,
    seed: int = 0,
    sign_key: bytes | None = None,
) -> Artifact:
    """Write a policy as one ONNX file with its contract.

    Args:
        path: the file; it is replaced in one step, and only by an artifact that passed every check.
        source: the policy, by ``policy_source`` or ``networks_source`` of :mod:`wpg.export.writing.sources`,
            or by :func:`wpg.export.writing.module.module_source`.
        interface: what the policy sees and commands.
        provenance: where it comes from.
        options: how its particles are drawn, refined and chosen.
        observations: (N, obs_dim) seen in training, for golden vectors and checks; by default they are drawn
            from the mean and variance that the policy normalises its inputs with, or around zero.
        seed: of the golden vectors and of the checks.
        sign_key: shared secret to sign the file with.

    Returns:
        The artifact, read back from the written bytes.

    Raises:
        ContractError: policy, interface and options do not fit each other.
        ParityError: the graph does not compute what the policy computes; nothing was written.
        OSError: the file cannot be written; what was there is untouched.
    """
    path, action, rng = Path(path), interface.action, np.random.default_rng(seed)
    spec = options.spec(
        action_dim=source.action_dim, num_components=source.num_components, temperature=source.temperature
    )
    source.check(interface, spec)
    reference = Reference(source.model, action, spec)
    candidates = observations_around(*_statistics(source, observations), rng)
    contract = Contract(
        version=CONTRACT_VERSION,
        interface=interface,
        sampler=spec,
        provenance=provenance,
        golden=golden_vectors(reference, spec, candidates, rng),
    )
    data = _with_contract(source.build(action, spec), contract)
    data = seal(data if sign_key is None else sign(data, sign_key))
    with replacing(path) as partial:
        partial.write_bytes(data)
        artifact = artifact_from_bytes(partial.read_bytes(), path, sign_key)
        check_parity(artifact.run, reference, candidates.reshape(-1, source.obs_dim), rng)
        artifact.verify_golden()
    return artifact


def _statistics(source: Source, observations: Floats | None) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the observations, each (obs_dim,)."""
    if observations is not None:
        return observations.mean(0), observations.std(0)
    if source.statistics is not None:
        mean, std = source.statistics
        return mean.reshape(-1), std.reshape(-1)
    return np.zeros(source.obs_dim, np.float32), np.ones(source.obs_dim, np.float32)


def _with_contract(model: onnx.ModelProto, contract: Contract) -> bytes:
    helper.set_model_props(model, {CONTRACT_KEY: encode_contract(contract)})
    onnx.checker.check_model(model, full_check=True)
    encoded: bytes = model.SerializeToString()
    return encoded
