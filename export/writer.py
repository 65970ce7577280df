"""Writes an artefact, or refuses: nothing reaches the disk that does not compute what the policy computes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    GoldenVectors,
    ParityError,
    PolicyInterface,
    Provenance,
    SamplerSpec,
    encode_contract,
    float_rows,
    noise_size,
)
from wpg.export.digest import seal
from wpg.export.graph import Networks, build_graph
from wpg.export.parity import Reference, check_parity, relative_error
from wpg.export.reader import CONTRACT_KEY, Artifact, Floats, artifact_from_bytes

GOLDEN_TOLERANCE = 1e-4
OBSERVATION_SCALES = (0.3, 1.0, 3.0)
"""Golden and parity observations lie this many standard deviations around the training mean."""
GOLDEN_PER_SCALE = 2
GOLDEN_PARTICLES_MAX = 32


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
    observations: Floats | None = None,
    seed: int = 0,
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
        switch_cost: of ``best_with_hysteresis``; by default the temperature.
        observations: (N, obs_dim) seen in training, for golden vectors and checks; by default they are drawn
            from the mean and variance that the policy has normalised its inputs with.
        seed: of the golden vectors and of the checks.

    Returns:
        The artefact, read back from the written bytes.

    Raises:
        ContractError: policy, critic and interface do not fit each other.
        ParityError: the graph does not compute what the policy computes; nothing was written.
        OSError: the file cannot be written; what was there is untouched.
    """
    _check_sizes(policy, critic, interface)
    networks = Networks.of(policy, critic)
    spec = SamplerSpec(
        num_particles=num_particles or policy.num_particles,
        num_components=policy.num_particles,
        noise_dim=noise_size(policy.action_dim, refinement_steps, choice),
        refinement_steps=refinement_steps,
        step_size=step_size if refinement_steps else 0.0,
        temperature=temperature,
        choice=choice,
        switch_cost=_switch_cost(choice, switch_cost, temperature),
    )
    rng = np.random.default_rng(seed)
    reference = Reference(policy, critic, interface.action, spec)
    candidates = _observations(policy, observations, rng)
    contract = Contract(
        version=CONTRACT_VERSION,
        interface=interface,
        sampler=spec,
        provenance=provenance,
        golden=_golden(reference, spec, candidates, rng),
    )
    data = seal(_with_contract(build_graph(networks, interface.action, spec), contract))
    path = Path(path)
    with _replacing(path, data) as temporary:
        artifact = artifact_from_bytes(temporary.read_bytes(), path)
        check_parity(artifact.run, reference, candidates.reshape(-1, policy.obs_dim), rng)
        artifact.verify_golden()
    return artifact


def _switch_cost(choice: ActionChoice, cost: float | None, temperature: float) -> float:
    if choice != "best_with_hysteresis":
        return 0.0
    return temperature if cost is None else cost


def _check_sizes(policy: ParticlePolicy, critic: Critic, interface: PolicyInterface) -> None:
    expected = (interface.obs_dim, interface.action.size)
    for name, module in (("policy", policy), ("critic", critic)):
        found = (module.obs_dim, module.action_dim)
        if found != expected:
            raise ContractError(
                f"{name}: expected {expected[0]} observations and {expected[1]} actions as in the interface, "
                f"found {found[0]} and {found[1]}"
            )
        for key, tensor in module.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise ParityError(f"{name}: expected finite weights, found NaN or infinity in {key}")


def _observations(policy: ParticlePolicy, seen: Floats | None, rng: np.random.Generator) -> Floats:
    """Candidates for golden vectors and checks, (scales, N, obs_dim), from well inside to well outside."""
    mean, std = np.zeros(policy.obs_dim), np.ones(policy.obs_dim)
    if seen is not None:
        mean, std = seen.mean(0), seen.std(0)
    elif (norm := policy.network.own_layers()[0].norm) is not None:
        mean = norm.running_mean.cpu().numpy().reshape(-1)
        std = norm.running_var.sqrt().cpu().numpy().reshape(-1)
    directions = rng.standard_normal((len(OBSERVATION_SCALES), 16, policy.obs_dim))
    around: Floats = (mean + np.array(OBSERVATION_SCALES)[:, None, None] * std * directions).astype(
        np.float32
    )
    return around


def _golden(
    reference: Reference, spec: SamplerSpec, candidates: Floats, rng: np.random.Generator
) -> GoldenVectors:
    """Of the candidates at every scale those whose outputs depend least on rounding."""
    particles = min(spec.num_particles, GOLDEN_PARTICLES_MAX)
    chosen, noises = [], []
    for obs in candidates:
        noise = rng.standard_normal((len(obs), particles, spec.noise_dim), dtype=np.float32)
        steadiest = np.argsort(_sensitivity(reference, obs, noise, rng))[:GOLDEN_PER_SCALE]
        chosen.append(obs[steadiest])
        noises.append(noise[steadiest])
    obs, noise = np.concatenate(chosen), np.concatenate(noises)
    previous = reference.previous_actions(obs, rng)
    expected = reference(obs, noise, previous)
    return GoldenVectors(
        obs=float_rows(obs),
        noise=tuple(float_rows(rows) for rows in noise),
        particles=tuple(float_rows(rows) for rows in expected.particles),
        values=float_rows(expected.values),
        action=float_rows(expected.action),
        spread=tuple(expected.spread.tolist()),
        previous=None if previous is None else float_rows(previous),
        tolerance=GOLDEN_TOLERANCE,
    )


def _sensitivity(reference: Reference, obs: Floats, noise: Floats, rng: np.random.Generator) -> Floats:
    """Largest change of an output, (B,), when the inputs change by a few roundings.

    It is large where two particles are nearly equally good, or a particle is refined near a kink of the
    critic: there another processor may rightly answer otherwise.
    """
    base = reference(obs, noise)
    change = np.zeros(len(obs))
    for _ in range(4):
        nudged = [x * (1 + 1e-6 * rng.standard_normal(x.shape)).astype(np.float32) for x in (obs, noise)]
        for output, original in zip(reference(*nudged), base, strict=True):
            change = np.maximum(change, relative_error(output, original).reshape(len(obs), -1).max(1))
    return change.astype(np.float32)


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
