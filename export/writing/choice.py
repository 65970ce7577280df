"""The choice of one particle, as part of the graph.

Every rule gives the particles scores, and the particle with the highest score is chosen:

- ``best``: the critics' smallest value Q;
- ``best_with_hysteresis``: Q − λ |a − a'| for the action a' chosen before, so that the arm leaves a mode
  only for one that is better by λ times its distance;
- ``medoid``: − Σ_j |a − a_j|, the particle nearest to all others, which is never between two modes;
- ``sample``: a random number from the noise input, so that the action is a sample of the policy.

Distances are Euclidean over actions in [−1, 1].
"""

import numpy as np

from wpg.export.contract import SamplerSpec
from wpg.export.interface import ActionTerm
from wpg.export.writing.builder import GraphBuilder


def add_choice(graph: GraphBuilder, a: str, term: ActionTerm, spec: SamplerSpec) -> None:
    """Add the output ``action``: the particle with the highest score.

    Args:
        graph: it has ``particles (B, K, A)`` and ``values (B, K)``.
        a: particles (B, K, A) in [-1, 1].
        term: unit and scale of the actions.
        spec: names the rule.
    """
    fixed = np.array(term.scale) == 0
    if fixed.any():  # dimensions with a fixed action do not count in distances
        a = graph.add("Mul", a, graph.constant("varies", np.where(fixed, 0.0, 1.0)))
    match spec.choice:
        case "best":
            scores = "values"
        case "best_with_hysteresis":
            cost = graph.add("Mul", _way(graph, a, term), graph.constant("switch_cost", spec.switch_cost))
            scores = graph.add("Sub", "values", cost)
        case "medoid":
            apart = graph.add(
                "Sub", graph.add("Unsqueeze", a, graph.ints(1)), graph.add("Unsqueeze", a, graph.ints(2))
            )  # (B, K, K, A)
            distances = graph.add("ReduceL2", apart, graph.ints(3), keepdims=0)
            scores = graph.add("Neg", graph.add("ReduceSum", distances, graph.ints(2), keepdims=0))
        case "sample":
            scores = graph.add("Squeeze", "lottery", graph.ints(2))
    chosen = graph.add("ArgMax", scores, axis=1, keepdims=1)
    graph.add("GatherND", "particles", chosen, out="action", batch_dims=1)


def _way(graph: GraphBuilder, a: str, term: ActionTerm) -> str:
    """Distance of every particle from the previous action, (B, K); 0 if there is none (NaN)."""
    scale = np.array(term.scale)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    centred = graph.add("Sub", "previous", "action_offset")
    before = graph.add("Mul", centred, graph.constant("inverse_action_scale", inverse))
    apart = graph.add("Sub", a, graph.add("Unsqueeze", before, graph.ints(1)))
    distance = graph.add("ReduceL2", apart, graph.ints(2), keepdims=0)
    unknown = graph.add("IsNaN", distance)
    return graph.add("Where", unknown, graph.constant("no_distance", 0.0), distance)


def add_spread(graph: GraphBuilder) -> None:
    """Add the output ``spread (B,)``: root mean square distance of the particles from their mean."""
    mean = graph.add("ReduceMean", "particles", graph.ints(1), keepdims=1)
    squares = graph.add("ReduceSumSquare", graph.add("Sub", "particles", mean), graph.ints(2), keepdims=0)
    graph.add("Sqrt", graph.add("ReduceMean", squares, graph.ints(1), keepdims=0), out="spread")
