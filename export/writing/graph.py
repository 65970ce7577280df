"""The particle sampler as an ONNX graph, written node by node.

With the policy's mixture (μ, σ, w) and the critics' minimum Q, particle k of component c = k mod C is

    u = μ_c + ν σ_c (I + w_c w_cᵀ)^½ ξ_0,    then M times    u ← u + η v + ν sqrt(2 η τ) ξ_m,
    v = ∇_u [Q(s, tanh u) + τ Σ log(1 − tanh² u)] = (1 − tanh² u) ∇_a Q − 2 τ tanh u

with the noise scale ν. The particle in the robot's units is ``offset + scale * tanh u``. The refinement
is unadjusted Langevin dynamics on the Gibbs density exp(Q/τ). Normalisation is folded into the layers, which
leaves plain MLPs of centred inputs; the critic's gradient is its back-propagation, written out as nodes.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto

from wpg.export.contract import SamplerSpec, graph_inputs, graph_outputs
from wpg.export.interface import ActionTerm
from wpg.export.writing.builder import GraphBuilder
from wpg.export.writing.choice import add_choice, add_spread
from wpg.export.writing.networks import Layer, Networks


def build_graph(networks: Networks, action: ActionTerm, spec: SamplerSpec) -> onnx.ModelProto:
    """The sampler as a model without metadata.

    Inputs are ``obs (B, obs_dim)``, ``noise (B, K, noise_dim)`` and, if the choice depends on it,
    ``previous (B, A)``. Outputs are ``particles (B, K, A)``, ``values (B, K)``, ``action (B, A)`` and
    ``spread (B,)``. B and K are dynamic.
    """
    graph = GraphBuilder()
    noise, *kicks = noises(graph, action.size, spec)
    obs = _normalised(graph, networks)
    u = _mixture_particles(graph, networks, obs, noise, spec.noise_scale)
    critics = [
        _CriticNodes(graph, f"critic{i}", layers, obs, networks.obs_dim)
        for i, layers in enumerate(networks.critics)
    ]
    for kick in kicks:
        u = _refine(graph, critics, u, kick, spec)
    a = graph.add("Tanh", u) if networks.squash == "tanh" else clipped(graph, u, "action", (-1.0, 1.0))
    _values(graph, critics, a)
    return complete_model(graph, networks.obs_dim, a, action, spec)


def complete_model(
    graph: GraphBuilder, obs_dim: int, a: str, action: ActionTerm, spec: SamplerSpec
) -> onnx.ModelProto:
    """Add scale, choice and spread, and return the whole model.

    Args:
        graph: it has ``values (B, K)``.
        obs_dim: entries of an observation.
        a: particles (B, K, A) in [-1, 1].
        action: unit and scale of the actions.
        spec: names the rule that chooses.
    """
    scaled = graph.add("Mul", a, graph.constant("action_scale", action.scale))
    graph.add("Add", scaled, graph.constant("action_offset", action.offset), out="particles")
    add_choice(graph, a, action, spec)
    add_spread(graph)
    return graph.model(inputs=graph_inputs(obs_dim, action.size, spec), outputs=graph_outputs(action.size))


def no_values(graph: GraphBuilder, a: str) -> None:
    """``values (B, K)`` of a policy without critics: 0."""
    nothing = graph.add("Mul", a, graph.constant("nothing", 0.0))
    graph.add("ReduceSum", nothing, graph.ints(2), out="values", keepdims=0)


class _CriticNodes:
    """One critic as nodes: its values, and the gradient of its values, at actions (B, K, A).

    After the first layer the particles of all states are rows, N = B · K, because onnxruntime computes a
    layer of rows, with its bias and ReLU, in one node.
    """

    def __init__(self, graph: GraphBuilder, name: str, layers: list[Layer], obs: str, split: int) -> None:
        self._graph = graph
        self._name = name
        (first, bias), *self._rest = layers
        # The observation's share of the first layer is the same for all particles of a state: (B, 1, H).
        share = graph.add(
            "Gemm", obs, graph.constant(f"{name}_obs", first[:split]), graph.constant(f"{name}_bias0", bias)
        )
        self._share = graph.add("Unsqueeze", share, graph.ints(1))
        self._action_weight = graph.constant(f"{name}_action", first[split:])
        self._width = first.shape[1]

    def values(self, a: str) -> str:
        """Values (N, 1)."""
        return self._forward(a)[0]

    def _forward(self, a: str) -> tuple[str, list[str]]:
        """Values (N, 1), and the outputs of the hidden layers, each (N, H)."""
        graph = self._graph
        first = graph.add("Relu", graph.add("Add", graph.add("MatMul", a, self._action_weight), self._share))
        hidden = [graph.add("Reshape", first, graph.ints(-1, self._width))]
        for index, layer in enumerate(self._rest[:-1], start=1):
            hidden.append(graph.add("Relu", _gemm(graph, hidden[-1], f"{self._name}_{index}", layer)))
        return _gemm(graph, hidden[-1], f"{self._name}_{len(self._rest)}", self._rest[-1]), hidden

    def values_and_gradient(self, a: str) -> tuple[str, str]:
        """Values (N, 1) and ``∇_a Q`` (N, A)."""
        graph = self._graph
        values, hidden = self._forward(a)
        weights = [self._action_weight]
        weights += [f"{self._name}_{index}_weight" for index in range(1, len(self._rest) + 1)]
        *below, last = [graph.add("Transpose", weight, perm=[1, 0]) for weight in weights]
        gradient = self._through_relu(last, hidden[-1])
        for output, transposed in zip(reversed(hidden[:-1]), reversed(below[1:]), strict=True):
            gradient = self._through_relu(graph.add("MatMul", gradient, transposed), output)
        return values, graph.add("MatMul", gradient, below[0])

    def _through_relu(self, gradient: str, output: str) -> str:
        """Gradient before a ReLU from the gradient after it, which is kept where the output is positive.

        Greater, Cast and Mul run vectorised in onnxruntime; Where and Sign do not.
        """
        graph = self._graph
        positive = graph.add("Greater", output, graph.constant("zero_float", 0.0))
        return graph.add("Mul", gradient, graph.add("Cast", positive, to=TensorProto.FLOAT))


def noises(graph: GraphBuilder, action_dim: int, spec: SamplerSpec) -> list[str]:
    """Noise of the draw and of every refinement step, each (B, K, A)."""
    parts = [action_dim] * (1 + spec.refinement_steps) + [1] * (spec.choice == "sample")
    if len(parts) == 1:
        return ["noise"]
    outs: list[str | None] = [f"noise_{step}" for step in range(1 + spec.refinement_steps)]
    if spec.choice == "sample":
        outs.append("lottery")
    names = graph.add_many("Split", "noise", graph.ints(*parts), outs=outs, axis=2)
    return names[: 1 + spec.refinement_steps]


def _normalised(graph: GraphBuilder, networks: Networks) -> str:
    """Normalised observation (B, obs_dim), the input of policy and critics."""
    if networks.normaliser is None:
        return "obs"
    rule = networks.normaliser
    centred = graph.add("Sub", "obs", graph.constant("obs_mean", rule.mean))
    scaled = centred if rule.std is None else graph.add("Div", centred, graph.constant("obs_std", rule.std))
    return scaled if rule.clip is None else clipped(graph, scaled, "obs", (-rule.clip, rule.clip))


def clipped(graph: GraphBuilder, value: str, name: str, span: tuple[float, float]) -> str:
    """Value limited to the span."""
    return graph.add(
        "Clip", value, graph.constant(f"{name}_min", span[0]), graph.constant(f"{name}_max", span[1])
    )


def _mixture_particles(
    graph: GraphBuilder, networks: Networks, obs: str, noise: str, noise_scale: float
) -> str:
    """Particles before the squash, (B, K, A); particle k is of component k mod C."""
    h = obs
    for index, layer in enumerate(networks.trunk):
        h = graph.add(networks.activation, _gemm(graph, h, f"policy_{index}", layer))
    mean, *widths = _heads(graph, networks, h, with_noise=noise_scale != 0)
    if not widths:
        return mean
    if noise_scale != 1:
        noise = graph.add("Mul", noise, graph.constant("noise_scale", noise_scale))
    log_std, *stretch = widths
    if stretch:
        noise = _stretched(graph, noise, clipped(graph, stretch[0], "stretch", networks.stretch_range))
    std = graph.add("Exp", clipped(graph, log_std, "log_std", networks.log_std_range))
    return graph.add("Add", mean, graph.add("Mul", std, noise))


def _heads(graph: GraphBuilder, networks: Networks, h: str, *, with_noise: bool) -> list[str]:
    """Mean, and for a random policy log-width and stretch, of every particle's component, each (B, K, A)."""
    components, size = networks.num_components, networks.action_dim
    widths = (networks.log_std, networks.stretch) if with_noise else ()
    layers = [networks.mean, *(layer for layer in widths if layer is not None)]
    # As one layer, with the outputs of a component side by side, they need only one look-up.
    weight, bias = (
        np.concatenate([np.reshape(part, (-1, components, size)) for part in parts], axis=2)
        for parts in zip(*layers, strict=True)
    )
    joined = weight.reshape(len(weight), -1), bias.reshape(-1)
    rows = graph.add(
        "Reshape",
        _gemm(graph, h, "policy_heads", joined),
        graph.ints(-1, components, len(layers) * size),
    )
    k = graph.add("Squeeze", graph.add("Shape", "noise", start=1, end=2))
    indices = graph.add("Range", graph.constant("zero", 0, np.int64), k, graph.constant("one", 1, np.int64))
    component = graph.add("Mod", indices, graph.constant("num_components", components, np.int64))
    found = graph.add("Gather", rows, component, axis=1)
    if len(layers) == 1:
        return [found]
    outs: list[str | None] = [None] * len(layers)
    return graph.add_many("Split", found, graph.ints(*[size] * len(layers)), outs=outs, axis=2)


def _stretched(graph: GraphBuilder, noise: str, stretch: str) -> str:
    """``(I + w wᵀ)^½ ξ = ξ + w (w·ξ) / (1 + sqrt(1 + w·w))``, (B, K, A)."""
    last, one = graph.ints(-1), graph.constant("one_float", 1.0)
    along = graph.add("ReduceSum", graph.add("Mul", stretch, noise), last)
    square = graph.add("ReduceSum", graph.add("Mul", stretch, stretch), last)
    root = graph.add("Add", graph.add("Sqrt", graph.add("Add", square, one)), one)
    return graph.add("Add", noise, graph.add("Mul", stretch, graph.add("Div", along, root)))


def _gemm(graph: GraphBuilder, x: str, name: str, layer: Layer) -> str:
    weight, bias = layer
    return graph.add(
        "Gemm", x, graph.constant(f"{name}_weight", weight), graph.constant(f"{name}_bias", bias)
    )


def _values(graph: GraphBuilder, critics: list[_CriticNodes], a: str) -> None:
    """``values (B, K)``: the smallest of the critics', or 0 without critics."""
    if not critics:
        no_values(graph, a)
        return
    lowest = graph.add("Min", *(critic.values(a) for critic in critics))
    graph.add("Reshape", lowest, graph.add("Shape", "noise", start=0, end=2), out="values")


def _refine(graph: GraphBuilder, critics: list[_CriticNodes], u: str, noise: str, spec: SamplerSpec) -> str:
    """One Langevin step in pre-tanh space."""
    a = graph.add("Tanh", u)
    lowest, gradient = critics[0].values_and_gradient(a)
    for critic in critics[1:]:
        values, other = critic.values_and_gradient(a)
        gradient = graph.add("Where", graph.add("LessOrEqual", lowest, values), gradient, other)
        lowest = graph.add("Min", lowest, values)
    gradient = graph.add("Reshape", gradient, graph.add("Shape", noise))
    one, eta = graph.constant("one_float", 1.0), spec.step_size
    slope = graph.add("Mul", graph.add("Sub", one, graph.add("Mul", a, a)), gradient)
    drift = graph.add("Mul", slope, graph.constant("step_size", eta))
    pull = graph.add("Mul", a, graph.constant("entropy_pull", -2 * eta * spec.temperature))
    diffusion = spec.noise_scale * math.sqrt(2 * eta * spec.temperature)
    kick = graph.add("Mul", noise, graph.constant("diffusion", diffusion))
    return graph.add("Sum", u, drift, pull, kick)
