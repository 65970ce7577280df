"""Any torch module that maps observations to actions, as a policy that can be written."""

import copy
import warnings

import onnx
import torch
from onnx import inliner
from torch import nn

from wpg.export.contract import SamplerSpec
from wpg.export.errors import ContractError
from wpg.export.interface import ActionTerm
from wpg.export.onnx_header import OPSET
from wpg.export.writing.builder import GraphBuilder
from wpg.export.writing.exportable_policy import ExportablePolicy
from wpg.export.writing.graph import clipped, complete_model, no_values, noises
from wpg.export.writing.models import ModuleModel, blaming_module

ROWS = 3
"""Batch size of the observations that a module is tried with."""


def exportable_module(module: nn.Module, *, obs_dim: int) -> ExportablePolicy:
    """A deterministic policy.

    Args:
        module: maps observations (B, obs_dim) in raw units to actions (B, A), which the graph limits to
            [-1, 1] before it scales them; whatever normalises the observations is part of the module.
        obs_dim: values that it sees.

    Raises:
        ContractError: it does not map such observations to actions, or cannot be written in ONNX's standard
            operators.
    """
    module = copy.deepcopy(module).cpu().eval()  # the caller may go on training
    action_dim = _action_dim(module, obs_dim)
    traced = _traced(module, obs_dim)

    def build(action: ActionTerm, spec: SamplerSpec) -> onnx.ModelProto:
        graph = GraphBuilder()
        try:
            out = graph.embed(traced, obs="obs")
        except ValueError as error:
            raise ContractError(f"module: {error}") from error
        one = graph.add("Unsqueeze", clipped(graph, out, "action", (-1.0, 1.0)), graph.ints(1))
        a = graph.add("Expand", one, graph.add("Shape", noises(graph, action.size, spec)[0]))
        no_values(graph, a)
        return complete_model(graph, obs_dim, a, action, spec)

    return ExportablePolicy(model=ModuleModel(module), build=build, obs_dim=obs_dim, action_dim=action_dim)


def _action_dim(module: nn.Module, obs_dim: int) -> int:
    with blaming_module(f"does not take observations ({ROWS}, {obs_dim})"), torch.no_grad():
        actions = module(torch.zeros(ROWS, obs_dim))
    found = tuple(actions.shape) if isinstance(actions, torch.Tensor) else type(actions).__name__
    if len(found) != 2 or found[0] != ROWS:
        raise ContractError(
            f"module: expected actions ({ROWS}, A) of observations ({ROWS}, {obs_dim}), found {found}"
        )
    return int(found[1])


def _traced(module: nn.Module, obs_dim: int) -> onnx.ModelProto:
    """The module as a model from ``obs (B, obs_dim)``."""
    with warnings.catch_warnings(), blaming_module("torch cannot write it as ONNX"):
        warnings.simplefilter("ignore")  # torch's exporter warns of its own internals
        program = torch.onnx.export(
            module,
            (torch.zeros(ROWS, obs_dim),),
            input_names=["obs"],
            dynamic_shapes=({0: torch.export.Dim("B")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return inliner.inline_local_functions(program.model_proto)
