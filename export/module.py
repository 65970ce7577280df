"""Any torch module that maps observations to actions, written as an artefact."""

import warnings
from pathlib import Path

import onnx
import torch
from onnx import inliner
from torch import nn

from wpg.export.builder import OPSET, GraphBuilder
from wpg.export.contract import ContractError, PolicyInterface, Provenance, SamplerSpec
from wpg.export.graph import clipped, finished, no_values
from wpg.export.models import ModuleModel
from wpg.export.reader import Artifact, Floats
from wpg.export.writer import ArtifactWriter


def write_module(
    path: Path | str,
    *,
    module: nn.Module,
    interface: PolicyInterface,
    provenance: Provenance,
    observations: Floats | None = None,
    seed: int = 0,
    sign_key: bytes | None = None,
) -> Artifact:
    """Write a deterministic policy.

    Args:
        path: the file; it is replaced in one step, and only by an artefact that passed every check.
        module: maps observations (B, obs_dim) in raw units to actions (B, A), which the graph limits to
            [-1, 1] before it scales them; whatever normalises the observations is part of the module.
        interface: what the policy sees and commands, for example by
            :func:`wpg.export.read_interface`.
        provenance: where it comes from.
        observations: (N, obs_dim) seen in training, for golden vectors and checks; by default around zero.
        seed: of the golden vectors and of the checks.
        sign_key: shared secret to sign the file with.

    Raises:
        ContractError: the module does not fit the interface, or takes more than standard operators.
        ParityError: the graph does not compute what the module computes; nothing was written.
        OSError: the file cannot be written; what was there is untouched.
    """
    size, action = interface.obs_dim, interface.action
    module = module.eval()
    with torch.no_grad():
        found = tuple(module(torch.zeros(3, size)).shape)
    if found != (3, action.size):
        raise ContractError(
            f"module: expected actions (3, {action.size}) of observations (3, {size}), found {found}"
        )
    graph = GraphBuilder()
    try:
        out = graph.embed(_traced(module, size), obs="obs")
    except ValueError as error:
        raise ContractError(f"module: {error}") from error
    one = graph.add("Unsqueeze", clipped(graph, out, "action", (-1.0, 1.0)), graph.ints(1))
    rows = graph.add("Concat", graph.add("Shape", "noise", start=0, end=2), graph.ints(action.size), axis=0)
    a = graph.add("Expand", one, rows)
    no_values(graph, a)
    spec = SamplerSpec(
        num_particles=1,
        num_components=1,
        noise_dim=action.size,
        refinement_steps=0,
        step_size=0.0,
        temperature=0.0,
    )
    return ArtifactWriter(
        model=ModuleModel(module), onnx_model=finished(graph, size, a, action, spec), statistics=None
    ).write(
        Path(path),
        interface=interface,
        provenance=provenance,
        spec=spec,
        observations=observations,
        seed=seed,
        sign_key=sign_key,
    )


def _traced(module: nn.Module, obs_dim: int) -> onnx.ModelProto:
    """The module as a model from ``obs (B, obs_dim)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own internals
        program = torch.onnx.export(
            module,
            (torch.zeros(3, obs_dim),),
            input_names=["obs"],
            dynamic_shapes=({0: torch.export.Dim("B")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return inliner.inline_local_functions(program.model_proto)
