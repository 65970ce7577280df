"""The particle sampler as an ONNX graph, written node by node.

With the policy's mixture (μ, σ) and the critics' minimum Q, particle k of component c = k mod C is

    u = μ_c + σ_c ξ_0,    then M times    u ← u + η v + sqrt(2 η τ) ξ_m,
    v = ∇_u [Q(s, tanh u) + τ Σ log(1 − tanh² u)] = (1 − tanh² u) ∇_a Q − 2 τ tanh u

and the particle in the robot's units is ``offset + scale * tanh u``. The refinement is unadjusted Langevin
dynamics on the Gibbs density exp(Q/τ). Normalisation is folded into the layers, so that what is left is plain
MLPs; the critic's gradient is its own back-propagation, written out.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from wpg.controllers.critic import Critic
from wpg.controllers.policy import LOG_STD_MAX, LOG_STD_MIN, ParticlePolicy
from wpg.export.builder import GraphBuilder
from wpg.export.choice import add_choice, add_spread
from wpg.export.contract import ActionTerm, SamplerSpec, graph_inputs, graph_outputs

Array = NDArray[Any]
Layer = tuple[Array, Array]
"""Weight (in, out) and bias (out,)."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Policy and critics at rest, as plain layers with ReLU between."""

    obs_dim: int
    num_components: int
    policy: list[Layer]
    """Last output viewed as (2, C, A): mean and unclamped log_std."""
    critics: list[list[Layer]]
    """One list a member; the input is observation, then action."""

    @classmethod
    def of(cls, policy: ParticlePolicy, critic: Critic) -> "Networks":
        """The layers of a policy and its critics, normalisation folded in."""
        ensemble = [(_array(weight), _array(bias)) for weight, bias in critic.folded_layers()]
        return cls(
            obs_dim=policy.obs_dim,
            num_components=policy.num_particles,
            policy=[(_array(weight), _array(bias).reshape(-1)) for weight, bias in policy.folded_layers()],
            critics=[
                [(weight[member], bias[member].reshape(-1)) for weight, bias in ensemble]
                for member in range(critic.ensemble)
            ],
        )


def build_graph(networks: Networks, action: ActionTerm, spec: SamplerSpec) -> onnx.ModelProto:
    """The sampler as a model without metadata.

    Inputs ``obs (B, obs_dim)``, ``noise (B, K, noise_dim)`` and, for a choice that looks back,
    ``previous (B, A)``; outputs ``particles (B, K, A)``,
    ``values (B, K)``, ``action (B, A)`` and ``spread (B,)``; B and K are free.
    """
    graph = GraphBuilder()
    noises = _noises(graph, action.size, spec)
    u = _mixture_particles(graph, networks, action.size, noises[0])
    critics = [
        _CriticNodes(graph, f"critic{i}", layers, networks) for i, layers in enumerate(networks.critics)
    ]
    for noise in noises[1:]:
        u = _refine(graph, critics, u, noise, spec)
    a = graph.add("Tanh", u)
    members = [critic.values(a) for critic in critics]
    graph.add("Min", *(graph.add("Squeeze", q, graph.ints(2)) for q in members), out="values")
    scale, offset = (
        graph.constant("action_scale", action.scale),
        graph.constant("action_offset", action.offset),
    )
    graph.add("Add", graph.add("Mul", a, scale), offset, out="particles")
    add_choice(graph, a, action, spec)
    add_spread(graph)
    return graph.model(
        inputs=graph_inputs(networks.obs_dim, action.size, spec), outputs=graph_outputs(action.size)
    )


class _CriticNodes:
    """One critic as nodes: its values, and the gradient of its values, at actions (B, K, A)."""

    def __init__(self, graph: GraphBuilder, name: str, layers: list[Layer], networks: Networks) -> None:
        self._graph = graph
        (first, bias), *rest = layers
        split = networks.obs_dim
        # The observation's share of the first layer is the same for all particles of a state: (B, 1, H).
        share = graph.add(
            "Gemm", "obs", graph.constant(f"{name}_obs", first[:split]), graph.constant(f"{name}_bias0", bias)
        )
        self._share = graph.add("Unsqueeze", share, graph.ints(1))
        self._weights = [graph.constant(f"{name}_action", first[split:])]
        self._biases = []
        for index, (weight, bias) in enumerate(rest, start=1):
            self._weights.append(graph.constant(f"{name}_weight{index}", weight))
            self._biases.append(graph.constant(f"{name}_bias{index}", bias))
        self._transposed = [graph.add("Transpose", weight, perm=[1, 0]) for weight in self._weights]

    def values(self, a: str) -> str:
        """Values (B, K, 1)."""
        return self._forward(a)[0]

    def _forward(self, a: str) -> tuple[str, list[str]]:
        graph = self._graph
        hidden = [graph.add("Relu", graph.add("Add", graph.add("MatMul", a, self._weights[0]), self._share))]
        for weight, bias in zip(self._weights[1:-1], self._biases[:-1], strict=True):
            hidden.append(graph.add("Relu", graph.add("Add", graph.add("MatMul", hidden[-1], weight), bias)))
        return graph.add("Add", graph.add("MatMul", hidden[-1], self._weights[-1]), self._biases[-1]), hidden

    def values_and_gradient(self, a: str) -> tuple[str, str]:
        """Values (B, K, 1) and ``∇_a Q`` (B, K, A)."""
        graph = self._graph
        values, hidden = self._forward(a)
        gradient = self._through_relu(self._transposed[-1], hidden[-1])
        for below, transposed in zip(reversed(hidden[:-1]), reversed(self._transposed[1:-1]), strict=True):
            gradient = self._through_relu(graph.add("MatMul", gradient, transposed), below)
        return values, graph.add("MatMul", gradient, self._transposed[0])

    def _through_relu(self, gradient: str, output: str) -> str:
        """Gradient before a ReLU, from that after it: kept where the output is positive.

        Greater, Cast and Mul run vectorised in onnxruntime; Where and Sign do not.
        """
        graph = self._graph
        positive = graph.add("Greater", output, graph.constant("zero_float", 0.0))
        return graph.add("Mul", gradient, graph.add("Cast", positive, to=TensorProto.FLOAT))


def _noises(graph: GraphBuilder, action_dim: int, spec: SamplerSpec) -> list[str]:
    """Noise of the draw and of every refinement step, each (B, K, A)."""
    parts = [action_dim] * (1 + spec.refinement_steps) + [1] * (spec.choice == "sample")
    if len(parts) == 1:
        return ["noise"]
    outs: list[str | None] = [f"noise_{step}" for step in range(1 + spec.refinement_steps)]
    if spec.choice == "sample":
        outs.append("lottery")
    names = graph.add_many("Split", "noise", graph.ints(*parts), outs=outs, axis=2)
    return names[: 1 + spec.refinement_steps]


def _mixture_particles(graph: GraphBuilder, networks: Networks, action_dim: int, noise: str) -> str:
    """Pre-tanh particles ``μ + σ ξ`` (B, K, A); particle k is of component k mod C."""
    h = "obs"
    *hidden, (weight, bias) = networks.policy
    for index, (w, b) in enumerate(hidden):
        gemm = graph.add(
            "Gemm", h, graph.constant(f"policy_weight{index}", w), graph.constant(f"policy_bias{index}", b)
        )
        h = graph.add("Relu", gemm)
    k = graph.add("Squeeze", graph.add("Shape", "noise", start=1, end=2))
    indices = graph.add("Range", graph.constant("zero", 0, np.int64), k, graph.constant("one", 1, np.int64))
    component = graph.add("Mod", indices, graph.constant("num_components", networks.num_components, np.int64))
    heads = []
    for name, columns in (
        ("mean", slice(None, weight.shape[1] // 2)),
        ("log_std", slice(weight.shape[1] // 2, None)),
    ):
        head = graph.add(
            "Gemm",
            h,
            graph.constant(f"policy_{name}", weight[:, columns]),
            graph.constant(f"policy_{name}_bias", bias[columns]),
        )
        rows = graph.add("Reshape", head, graph.ints(-1, networks.num_components, action_dim))
        heads.append(graph.add("Gather", rows, component, axis=1))
    mean, log_std = heads
    clipped = graph.add(
        "Clip",
        log_std,
        graph.constant("log_std_min", LOG_STD_MIN),
        graph.constant("log_std_max", LOG_STD_MAX),
    )
    return graph.add("Add", mean, graph.add("Mul", graph.add("Exp", clipped), noise))


def _refine(graph: GraphBuilder, critics: list[_CriticNodes], u: str, noise: str, spec: SamplerSpec) -> str:
    """One Langevin step in pre-tanh space."""
    a = graph.add("Tanh", u)
    lowest, gradient = critics[0].values_and_gradient(a)
    for critic in critics[1:]:
        values, other = critic.values_and_gradient(a)
        gradient = graph.add("Where", graph.add("LessOrEqual", lowest, values), gradient, other)
        lowest = graph.add("Min", lowest, values)
    one, eta = graph.constant("one_float", 1.0), spec.step_size
    slope = graph.add("Mul", graph.add("Sub", one, graph.add("Mul", a, a)), gradient)
    drift = graph.add("Mul", slope, graph.constant("step_size", eta))
    pull = graph.add("Mul", a, graph.constant("entropy_pull", -2 * eta * spec.temperature))
    kick = graph.add("Mul", noise, graph.constant("diffusion", math.sqrt(2 * eta * spec.temperature)))
    return graph.add("Sum", u, drift, pull, kick)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().to(torch.float32).numpy()
