"""Tests whether the sampler may be quantised to int8, by error of its actions, success, return and latency.

    python benchmarks/int8.py FILE.onnx [--episodes 400] [--json FILE]

Three ways of quantising are compared:

- ``dynamic`` measures the range of every layer's input at run time.
- ``static`` takes it from observations of 20 episodes.
- ``critics`` is dynamic in the critics' hidden layers only, which are most of the work. Rounding there moves
  no particle; it only changes their order.

All graphs use the same episodes and noise. ``gain`` is the mean difference of pairs from float32, with its
95 % interval. An action's error is that of the chosen particle, in [-1, 1] for each joint, over the
observations that float32 has met. Int8 passes if success and return are not worse by their intervals and a
draw takes less time.
"""

import gc
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime as ort
import tyro
from gymnasium.spaces import Box
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.cli.acting import acting, artifact_act
from wpg.controllers import evaluate
from wpg.controllers.experience.evaluation import Evaluation
from wpg.controllers.statistics import bootstrap_interval
from wpg.export import Artifact, load_artifact

CALIBRATION_EPISODES = 20
SEED, CALIBRATION_SEED = 10_000, 20_000
DRAWS = 5000
EXACT = "float32"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Result of one graph."""

    graph: str
    error_p50: float
    error_p99: float
    other_particle: float
    success: float | None
    success_gain: tuple[float, float, float]
    return_mean: float
    return_gain: tuple[float, float, float]
    p50_us: float
    p99_us: float
    passes: bool


class Watched:
    """A controller that stores its observations."""

    def __init__(self, act: Callable[[np.ndarray], np.ndarray]) -> None:
        self._act = act
        self.observations: list[np.ndarray] = []

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """The controller's action."""
        self.observations.append(np.array(obs, np.float32))
        return self._act(obs)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Observations one by one, with noise."""

    def __init__(self, observations: np.ndarray, noise_shape: tuple[int, int]) -> None:
        self._rows = self._feed(observations, noise_shape)

    @staticmethod
    def _feed(observations: np.ndarray, noise_shape: tuple[int, int]) -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng(CALIBRATION_SEED)
        for obs in observations:
            yield {"obs": obs[None], "noise": rng.standard_normal((1, *noise_shape), np.float32)}

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next inputs, or None at the end."""
        return next(self._rows, None)


def quantised(artifact: Artifact, folder: Path, observations: np.ndarray) -> dict[str, Artifact]:
    """The artifact with its graph in int8, by the way of quantisation."""
    prepared = folder / "prepared.onnx"
    dynamic, critics, static = (folder / f"{name}.onnx" for name in ("dynamic", "critics", "static"))
    quant_pre_process(artifact.path, prepared, skip_symbolic_shape=True)
    layers = ["Gemm", "MatMul"]
    for path, nodes in ((dynamic, None), (critics, hidden_layers(onnx.load(prepared)))):
        quantize_dynamic(
            prepared,
            path,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=layers,
            nodes_to_quantize=nodes,
        )
    quantize_static(
        prepared,
        static,
        Calibration(observations, artifact.sampler().noise_shape),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=layers,
    )
    return {f"int8 {path.stem}": with_graph(artifact, path) for path in (dynamic, critics, static)}


def hidden_layers(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the critics' hidden layers, once they are split into MatMul and Add."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [
        f"{node.name}_MatMul"
        for node in model.graph.node
        if node.op_type == "Gemm"
        and re.fullmatch(r"critic\d+_\d+_weight", node.input[1])
        and sizes[node.input[1]][1] > 1
    ]


def with_graph(artifact: Artifact, path: Path) -> Artifact:
    """The artifact with another graph under its contract."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Artifact(path, artifact.contract, artifact.digest, session, signed=False)


def errors(found: Artifact, exact: Artifact, observations: np.ndarray) -> tuple[np.ndarray, float]:
    """Largest error of an action's joints (N,), and how often another particle was chosen."""
    spec, term = exact.contract.sampler, exact.contract.interface.action
    noise = np.random.default_rng(0).standard_normal(
        (len(observations), spec.num_particles, spec.noise_dim), np.float32
    )
    ours, theirs = (artifact.run(observations, noise) for artifact in (found, exact))
    chosen = [(outputs.particles == outputs.action[:, None]).all(-1).argmax(1) for outputs in (ours, theirs)]
    error = np.abs(ours.action - theirs.action) / np.array(term.scale)
    return error.max(-1), float((chosen[0] != chosen[1]).mean())


def latencies(artifacts: list[Artifact], obs: np.ndarray) -> list[np.ndarray]:
    """Durations of draws in µs; graphs take turns, so that other load on the machine affects all alike."""
    samplers = [artifact.sampler() for artifact in artifacts]
    noise = np.random.default_rng(0).standard_normal(samplers[0].noise_shape)
    taken: list[list[float]] = [[] for _ in samplers]
    gc.disable()
    for _ in range(DRAWS):
        for sampler, durations in zip(samplers, taken, strict=True):
            start = time.perf_counter_ns()
            sampler.draw(obs, noise)
            durations.append((time.perf_counter_ns() - start) / 1e3)
    gc.enable()
    return [np.array(durations[DRAWS // 10 :]) for durations in taken]


def gain(found: Any, base: Any) -> tuple[float, float, float]:
    """Mean of the paired differences with its interval, or nothing if there is no pair."""
    difference = np.array(found, float) - np.array(base, float)
    if not difference.size:
        return 0.0, 0.0, 0.0
    return float(difference.mean()), *bootstrap_interval(difference)


def line(
    graph: str, found: Evaluation, base: Evaluation, error: tuple[np.ndarray, float], us: list[np.ndarray]
) -> Line:
    """One line of the table; ``us`` has its durations and those of float32."""
    success, returned = gain(found.successes, base.successes), gain(found.returns, base.returns)
    p50_us, base_us = (float(np.median(durations)) for durations in us)
    return Line(
        graph=graph,
        error_p50=float(np.median(error[0])),
        error_p99=float(np.percentile(error[0], 99)),
        other_particle=error[1],
        success=found.success_rate,
        success_gain=success,
        return_mean=found.return_mean,
        return_gain=returned,
        p50_us=p50_us,
        p99_us=float(np.percentile(us[0], 99)),
        passes=success[2] >= 0 and returned[2] >= 0 and p50_us < base_us,
    )


def show(row: Line) -> None:
    """Print it as Markdown."""
    success, low, high = row.success_gain
    gained, least, most = row.return_gain
    rate = "" if row.success is None else f"{row.success:.3f}"
    print(
        f"| {row.graph} | {row.error_p50:.2g} | {row.error_p99:.2g} | {row.other_particle:.0%} | {rate} "
        f"| {success:+.3f} ({low:+.3f} to {high:+.3f}) | {row.return_mean:.2f} "
        f"| {gained:+.2f} ({least:+.2f} to {most:+.2f}) | {row.p50_us:.0f} | {row.p99_us:.0f} "
        f"| {'' if row.graph == EXACT else 'yes' if row.passes else 'no'} |",
        flush=True,
    )


def main(
    file: tyro.conf.Positional[Path],
    *,
    episodes: int = 400,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the table as Markdown."""
    exact = load_artifact(file)
    with tempfile.TemporaryDirectory() as name, acting(file, None, "best", seed=0) as (_, env, _):
        assert isinstance(env.action_space, Box)
        watched = Watched(artifact_act(exact, env.action_space, "best", seed=0))
        evaluate(watched, env, CALIBRATION_EPISODES, seed=CALIBRATION_SEED)
        observations = np.array(watched.observations)
        graphs = {EXACT: exact, **quantised(exact, Path(name), observations)}
        durations = latencies(list(graphs.values()), observations[0])
        headings = "graph, error p50, p99, other particle, success, gain, return, gain, µs p50, p99, passes"
        print(f"| {headings.replace(', ', ' | ')} |\n{'|---' * (headings.count(',') + 1)}|")
        rows: list[Line] = []
        base = None
        for (graph, artifact), taken in zip(graphs.items(), durations, strict=True):
            act = artifact_act(artifact, env.action_space, "best", seed=0)
            found = evaluate(act, env, episodes, seed=SEED)
            base = base or found
            error = errors(artifact, exact, observations)
            rows.append(line(graph, found, base, error, [taken, durations[0]]))
            show(rows[-1])
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
