"""Builds ONNX graphs node by node."""

from itertools import count
from typing import Any

import numpy as np
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

from wpg.export.onnx_header import IR_VERSION, OPSET

Shapes = dict[str, tuple[str | int, ...]]
"""Shapes by name; a string stands for a dynamic size."""


class GraphBuilder:
    """Collects nodes and constants; inputs and outputs are referred to by name."""

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

    def embed(self, model: onnx.ModelProto, **inputs: str) -> str:
        """Append another model's nodes, its inputs connected to ours by name, and return its only output.

        Raises:
            ValueError: the model uses operators or an operator set that this graph does not have.
        """
        domains = {opset.domain: opset.version for opset in model.opset_import}
        if domains.get("", OPSET) != OPSET or len(model.graph.output) != 1:
            raise ValueError(f"expected operator set {OPSET} and one output, found {domains}")
        foreign = sorted({node.op_type for node in model.graph.node if node.domain})
        if foreign:
            raise ValueError(f"expected standard operators, found {', '.join(foreign)}")
        renamed = onnx.compose.add_prefix(model, "embedded/")
        connected = {f"embedded/{theirs}": ours for theirs, ours in inputs.items()}
        for node in renamed.graph.node:
            node.input[:] = [connected.get(name, name) for name in node.input]
            self._nodes.append(node)
        for tensor in renamed.graph.initializer:
            self._constants[tensor.name] = tensor
        return str(renamed.graph.output[0].name)

    def model(self, inputs: Shapes, outputs: Shapes) -> onnx.ModelProto:
        """The whole as a float32 model with its declared inputs and outputs."""
        graph = helper.make_graph(
            self._nodes,
            "particle_sampler",
            [_floats(name, shape) for name, shape in inputs.items()],
            [_floats(name, shape) for name, shape in outputs.items()],
            list(self._constants.values()),
        )
        return helper.make_model(
            graph, producer_name="wpg", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )


def _floats(name: str, shape: tuple[str | int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
