"""What the writer needs of a policy: its graph, and the float64 model that the graph is checked against."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.export.contract import SamplerSpec
from wpg.export.errors import ContractError, ParityError
from wpg.export.interface import ActionTerm, PolicyInterface
from wpg.export.writing.graph import build_graph
from wpg.export.writing.models import Model, OwnModel, PlainModel
from wpg.export.writing.networks import Array, Networks, as_array


@dataclass(frozen=True, kw_only=True)
class ExportablePolicy:
    """A policy of any kind, as the writer takes it."""

    model: Model
    """The policy in float64."""
    build: Callable[[ActionTerm, SamplerSpec], onnx.ModelProto]
    """Writes its graph."""
    obs_dim: int
    action_dim: int
    num_components: int = 1
    temperature: float = 0.0
    """τ of the Gibbs policy, where it was trained with one."""
    has_critics: bool = False
    is_random: bool = False
    """Whether the action for an observation is random."""
    statistics: tuple[Array, Array] | None = None
    """Mean and standard deviation of the observations in training, each (obs_dim,); None if not known."""

    def check(self, interface: PolicyInterface, spec: SamplerSpec) -> None:
        """Refuse an interface of another size, and options that need critics if there are none.

        Raises:
            ContractError: the policy does not fit the interface or the options.
        """
        found, expected = (self.obs_dim, self.action_dim), (interface.obs_dim, interface.action.size)
        if found != expected:
            raise ContractError(
                f"policy: expected {expected[0]} observations and {expected[1]} actions as in the "
                f"interface, found {found[0]} and {found[1]}"
            )
        if not self.has_critics:
            if spec.choice.startswith("best") and self.is_random:
                raise ContractError(
                    f"choice {spec.choice!r} needs critics; without, choose 'sample' or 'medoid'"
                )
            if spec.refinement_steps:
                raise ContractError("refinement needs critics, and this policy has none: leave it out")


def exportable_policy(policy: ParticlePolicy, critic: Critic, *, temperature: float) -> ExportablePolicy:
    """A particle policy and its critics, which value and refine the particles.

    Args:
        policy: the policy.
        critic: the critics.
        temperature: τ of the Gibbs policy at the end of training.

    Raises:
        ContractError: their observations or actions have different sizes.
        ParityError: a weight is not finite.
    """
    sizes = [(module.obs_dim, module.action_dim) for module in (policy, critic)]
    if sizes[0] != sizes[1]:
        raise ContractError(f"critic: expected the policy's {sizes[0]} values, found {sizes[1]}")
    for name, module in (("policy", policy), ("critic", critic)):
        for key, tensor in module.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise ParityError(f"{name}: expected finite weights, found NaN or infinity in {key}")
    norm = policy.network.own_layers()[0].norm
    return ExportablePolicy(
        model=OwnModel(policy, critic),
        build=partial(build_graph, Networks.of(policy, critic)),
        obs_dim=policy.obs_dim,
        action_dim=policy.action_dim,
        num_components=policy.num_particles,
        temperature=temperature,
        has_critics=True,
        is_random=True,
        statistics=None
        if norm is None
        else (as_array(norm.running_mean).reshape(-1), as_array(norm.running_var.sqrt()).reshape(-1)),
    )


def exportable_networks(networks: Networks, *, temperature: float = 0.0) -> ExportablePolicy:
    """Networks that another library has trained.

    Raises:
        ContractError: policy and normaliser are of different sizes.
    """
    rule = networks.normaliser
    if rule is not None and rule.mean.size != networks.obs_dim:
        raise ContractError(
            f"normaliser: expected {networks.obs_dim} observations as the policy, found {rule.mean.size}"
        )
    return ExportablePolicy(
        model=PlainModel(networks),
        build=partial(build_graph, networks),
        obs_dim=networks.obs_dim,
        action_dim=networks.action_dim,
        num_components=networks.num_components,
        temperature=temperature,
        has_critics=bool(networks.critics),
        is_random=networks.log_std is not None,
        statistics=None if rule is None or rule.std is None else (rule.mean, rule.std),
    )
