"""Writes an artefact, or refuses: nothing reaches the disk that does not compute what the policy computes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from wpg.controllers.critic import Critic
from wpg.controllers.policy import ParticlePolicy
from wpg.export.contract import (
    CONTRACT_VERSION,
    ActionChoice,
    Contract,
    ContractError,
    ParityError,
    PolicyInterface,
    Provenance,
    SamplerSpec,
    encode_contract,
    noise_size,
)
from wpg.export.digest import seal, sign
from wpg.export.golden import golden_vectors, observations_around
from wpg.export.graph import build_graph
from wpg.export.models import Model, OwnModel, PlainModel
from wpg.export.networks import Array, Networks, as_array
from wpg.export.parity import Reference, check_parity
from wpg.export.reader import CONTRACT_KEY, Artifact, Floats, artifact_from_bytes


def write_artifact(
    path: Path | str,
    *,
    policy: ParticlePolicy,
    critic: Critic,
    interface: PolicyInterface,
    provenance: Provenance,
    temperature: float,
    num_particles: int | None = None,
    refinement_steps: int = 0,
    step_size: float = 0.05,
    choice: ActionChoice = "best",
    switch_cost: float | None = None,
    noise_scale: float = 1.0,
    observations: Floats | None = None,
    seed: int = 0,
    sign_key: bytes | None = None,
) -> Artifact:
    """Write policy and critic as one ONNX file with its contract.

    Args:
        path: the file; it is replaced in one step, and only by an artefact that passed every check.
        policy: draws the particles.
        critic: rates them, and refines them if asked to.
        interface: what the policy sees and commands.
        provenance: where it comes from.
        temperature: τ of the Gibbs policy at the end of training.
        num_particles: particles to draw unless the caller asks for another number; by default the
            components of the policy.
        refinement_steps: Langevin steps M of every particle.
        step_size: η of a step.
        choice: which particle becomes the action.
        switch_cost: of ``best_with_hysteresis``; by default 10 times the temperature.
        noise_scale: what the graph multiplies the noise by; 0 acts by the components' means.
        observations: (N, obs_dim) seen in training, for golden vectors and checks; by default they are drawn
            from the mean and variance that the policy has normalised its inputs with.
        seed: of the golden vectors and of the checks.
        sign_key: shared secret to sign the file with.

    Returns:
        The artefact, read back from the written bytes.

    Raises:
        ContractError: policy, critic and interface do not fit each other, or an option is out of range.
        ParityError: the graph does not compute what the policy computes; nothing was written.
        OSError: the file cannot be written; what was there is untouched.
    """
    _check_sizes("policy", (policy.obs_dim, policy.action_dim), interface)
    _check_sizes("critic", (critic.obs_dim, critic.action_dim), interface)
    for name, module in (("policy", policy), ("critic", critic)):
        for key, tensor in module.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise ParityError(f"{name}: expected finite weights, found NaN or infinity in {key}")
    norm = policy.network.own_layers()[0].norm
    spec = _sampler_spec(
        action_dim=policy.action_dim,
        num_particles=policy.num_particles if num_particles is None else num_particles,
        num_components=policy.num_particles,
        refinement_steps=refinement_steps,
        step_size=step_size,
        temperature=temperature,
        choice=choice,
        switch_cost=switch_cost,
        noise_scale=noise_scale,
    )
    return ArtifactWriter(
        model=OwnModel(policy, critic),
        onnx_model=build_graph(Networks.of(policy, critic), interface.action, spec),
        statistics=None if norm is None else (as_array(norm.running_mean), as_array(norm.running_var.sqrt())),
    ).write(
        Path(path),
        interface=interface,
        provenance=provenance,
        spec=spec,
        observations=observations,
        seed=seed,
        sign_key=sign_key,
    )


def write_networks(
    path: Path | str,
    *,
    networks: Networks,
    interface: PolicyInterface,
    provenance: Provenance,
    temperature: float = 0.0,
    num_particles: int = 1,
    refinement_steps: int = 0,
    step_size: float = 0.05,
    choice: ActionChoice = "best",
    switch_cost: float | None = None,
    noise_scale: float = 1.0,
    observations: Floats | None = None,
    seed: int = 0,
    sign_key: bytes | None = None,
) -> Artifact:
    """Write networks that another library has trained, as the same kind of file.

    Args:
        path: as for :func:`write_artifact`.
        networks: policy and critics as plain numbers.
        interface: what the policy sees and commands.
        provenance: where it comes from.
        temperature: τ, where the policy was trained with one.
        num_particles: particles to draw unless the caller asks for another number.
        refinement_steps: Langevin steps M of every particle.
        step_size: η of a step.
        choice: which particle becomes the action.
        switch_cost: of ``best_with_hysteresis``; by default 10 times the temperature.
        noise_scale: what the graph multiplies the noise by; 0 acts by the components' means.
        observations: (N, obs_dim) seen in training, for golden vectors and checks; by default they are drawn
            around the normaliser's mean, or around zero.
        seed: of the golden vectors and of the checks.
        sign_key: shared secret to sign the file with.

    Raises:
        ContractError: networks and interface do not fit each other, an option is out of range, or the
            choice or the refinement needs critics.
        ParityError: the graph does not compute what the networks compute; nothing was written.
        OSError: the file cannot be written; what was there is untouched.
    """
    _check_sizes("policy", (networks.obs_dim, networks.action_dim), interface)
    rule = networks.normaliser
    if rule is not None and rule.mean.size != networks.obs_dim:
        raise ContractError(
            f"normaliser: expected {networks.obs_dim} observations as the policy, found {rule.mean.size}"
        )
    if not networks.critics:
        if choice.startswith("best") and networks.log_std is not None:
            raise ContractError(f"choice {choice!r} needs critics; without, choose 'sample' or 'medoid'")
        if refinement_steps:
            raise ContractError("refinement needs critics, and this policy has none: leave it out")
    spec = _sampler_spec(
        action_dim=networks.action_dim,
        num_particles=num_particles,
        num_components=networks.num_components,
        refinement_steps=refinement_steps,
        step_size=step_size,
        temperature=temperature,
        choice=choice,
        switch_cost=switch_cost,
        noise_scale=noise_scale,
    )
    return ArtifactWriter(
        model=PlainModel(networks),
        onnx_model=build_graph(networks, interface.action, spec),
        statistics=None if rule is None or rule.std is None else (rule.mean, rule.std),
    ).write(
        Path(path),
        interface=interface,
        provenance=provenance,
        spec=spec,
        observations=observations,
        seed=seed,
        sign_key=sign_key,
    )


@dataclass(frozen=True, kw_only=True)
class ArtifactWriter:
    """A graph, and the model it is held against."""

    model: Model
    onnx_model: onnx.ModelProto
    statistics: tuple[Array, Array] | None
    """Mean and standard deviation of the observations in training."""

    def write(
        self,
        path: Path,
        *,
        interface: PolicyInterface,
        provenance: Provenance,
        spec: SamplerSpec,
        observations: Floats | None,
        seed: int,
        sign_key: bytes | None,
    ) -> Artifact:
        """Write graph and contract, if the graph computes what the model computes."""
        rng = np.random.default_rng(seed)
        size = interface.obs_dim
        mean, std = self.statistics or (np.zeros(size), np.ones(size))
        if observations is not None:
            mean, std = observations.mean(0), observations.std(0)
        candidates = observations_around(mean.reshape(-1), std.reshape(-1), rng)
        reference = Reference(self.model, interface.action, spec)
        contract = Contract(
            version=CONTRACT_VERSION,
            interface=interface,
            sampler=spec,
            provenance=provenance,
            golden=golden_vectors(reference, spec, candidates, rng),
        )
        data = _with_contract(self.onnx_model, contract)
        data = seal(data if sign_key is None else sign(data, sign_key))
        with _replacing(path, data) as temporary:
            artifact = artifact_from_bytes(temporary.read_bytes(), path, sign_key)
            check_parity(artifact.run, reference, candidates.reshape(-1, size), rng)
            artifact.verify_golden()
        return artifact


def _check_sizes(name: str, found: tuple[int, int], interface: PolicyInterface) -> None:
    expected = (interface.obs_dim, interface.action.size)
    if found != expected:
        raise ContractError(
            f"{name}: expected {expected[0]} observations and {expected[1]} actions as in the interface, "
            f"found {found[0]} and {found[1]}"
        )


def _sampler_spec(
    *,
    action_dim: int,
    num_particles: int,
    num_components: int,
    refinement_steps: int,
    step_size: float,
    temperature: float,
    choice: ActionChoice,
    switch_cost: float | None,
    noise_scale: float,
) -> SamplerSpec:
    for name, value, least in (
        ("num_particles", num_particles, 1),
        ("refinement_steps", refinement_steps, 0),
        ("step_size", step_size, 0.0),
        ("switch_cost", switch_cost or 0.0, 0.0),
        ("noise_scale", noise_scale, 0.0),
    ):
        if not least <= value < np.inf:
            raise ContractError(f"{name}: expected at least {least}, found {value}")
    if choice != "best_with_hysteresis":
        switch_cost = 0.0
    return SamplerSpec(
        num_particles=num_particles,
        num_components=num_components,
        noise_dim=noise_size(action_dim, refinement_steps, choice),
        refinement_steps=refinement_steps,
        step_size=step_size if refinement_steps else 0.0,
        temperature=temperature,
        choice=choice,
        switch_cost=10 * temperature if switch_cost is None else switch_cost,
        noise_scale=noise_scale,
    )


def _with_contract(model: onnx.ModelProto, contract: Contract) -> bytes:
    helper.set_model_props(model, {CONTRACT_KEY: encode_contract(contract)})
    onnx.checker.check_model(model, full_check=True)
    encoded: bytes = model.SerializeToString()
    return encoded


@contextmanager
def _replacing(path: Path, data: bytes) -> Iterator[Path]:
    """Data in a temporary file beside ``path``, which it replaces if the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
