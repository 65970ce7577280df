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
from itertools import count
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from wpg.controllers.critic import Critic
from wpg.controllers.policy import LOG_STD_MAX, LOG_STD_MIN, ParticlePolicy
from wpg.export.contract import ActionTerm, SamplerSpec

OPSET = 18
IR_VERSION = 9

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

    Inputs ``obs (B, obs_dim)`` and ``noise (B, K, noise_dim)``; outputs ``particles (B, K, A)``,
    ``values (B, K)``, ``action (B, A)`` and ``spread (B,)``; B and K are free.
    """
    graph = _Graph()
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
    _choose(graph)
    _spread(graph)
    return graph.model(networks.obs_dim, action.size, spec.noise_dim)


class _Graph:
    """Collects nodes and constants; values are referred to by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names = count()

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        (name,) = self.add_many(op, *inputs, outs=[out], **attributes)
        return name

    def add_many(self, op: str, *inputs: str, outs: "list[str | None]", **attributes: Any) -> list[str]:
        """Append a node and return its outputs' names."""
        names = [out or f"{op.lower()}_{next(self._names)}" for out in outs]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """A constant, stored once under its name."""
        self._constants[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def ints(self, *values: int) -> str:
        """A constant (len(values),) of int64."""
        return self.constant("ints_" + "_".join(map(str, values)), values, np.int64)

    def model(self, obs_dim: int, action_dim: int, noise_dim: int) -> onnx.ModelProto:
        """The whole as a model with its declared inputs and outputs."""
        graph = helper.make_graph(
            self._nodes,
            "particle_sampler",
            [_floats("obs", "B", obs_dim), _floats("noise", "B", "K", noise_dim)],
            [
                _floats("particles", "B", "K", action_dim),
                _floats("values", "B", "K"),
                _floats("action", "B", action_dim),
                _floats("spread", "B"),
            ],
            list(self._constants.values()),
        )
        return helper.make_model(
            graph, producer_name="wpg", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )


class _CriticNodes:
    """One critic as nodes: its values, and the gradient of its values, at actions (B, K, A)."""

    def __init__(self, graph: _Graph, name: str, layers: list[Layer], networks: Networks) -> None:
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


def _noises(graph: _Graph, action_dim: int, spec: SamplerSpec) -> list[str]:
    """Noise of the draw and of every refinement step, each (B, K, A)."""
    if spec.refinement_steps == 0:
        return ["noise"]
    sizes = graph.ints(*[action_dim] * (1 + spec.refinement_steps))
    outs: list[str | None] = [f"noise_{step}" for step in range(1 + spec.refinement_steps)]
    return graph.add_many("Split", "noise", sizes, outs=outs, axis=2)


def _mixture_particles(graph: _Graph, networks: Networks, action_dim: int, noise: str) -> str:
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


def _refine(graph: _Graph, critics: list[_CriticNodes], u: str, noise: str, spec: SamplerSpec) -> str:
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


def _choose(graph: _Graph) -> None:
    """``action``: of a state's particles the one with the highest value."""
    best = graph.add("ArgMax", "values", axis=1, keepdims=1)
    graph.add("GatherND", "particles", best, out="action", batch_dims=1)


def _spread(graph: _Graph) -> None:
    """``spread``: root mean square distance of the particles from their mean."""
    centred = graph.add("Sub", "particles", graph.add("ReduceMean", "particles", graph.ints(1), keepdims=1))
    squares = graph.add("ReduceSumSquare", centred, graph.ints(2), keepdims=0)
    graph.add("Sqrt", graph.add("ReduceMean", squares, graph.ints(1), keepdims=0), out="spread")


def _floats(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().to(torch.float32).numpy()
