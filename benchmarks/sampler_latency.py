"""Measures how long an artifact takes for one observation on one thread, by particles, refinement and choice.

    python benchmarks/sampler_latency.py [--draws 3000] [--json FILE]

Two lower bounds from the same run are shown beside the time of a draw: onnxruntime alone on the bound
buffers, and the matrix products alone, which onnxruntime runs as a separate graph. The networks have the
sizes that training uses, with untrained weights.
"""

import gc
import json
import platform
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import tyro

from wpg.export import ActionTerm, Artifact, ObservationTerm, PolicyInterface
from wpg.export.options import SamplerOptions
from wpg.export.testing import untrained_artifact
from wpg.export.writing.builder import GraphBuilder

OBS_DIM, ACTION_DIM, HIDDEN, CRITICS, COMPONENTS = 20, 7, 256, 2, 16

INTERFACE = PolicyInterface(
    robot=None,
    observation=(ObservationTerm(name="observation", size=OBS_DIM, source="environment"),),
    action=ActionTerm(
        mode="environment", size=ACTION_DIM, unit="rad", scale=(0.1,) * ACTION_DIM, offset=(0.0,) * ACTION_DIM
    ),
    control_dt_s=0.05,
)


def products(num_particles: int, refinement_steps: int) -> list[tuple[int, int, int]]:
    """Every matrix product of a draw, as (rows, in, out)."""
    heads = 3 * COMPONENTS * ACTION_DIM  # mean, width and stretch
    policy = [(1, OBS_DIM, HIDDEN), (1, HIDDEN, HIDDEN), (1, HIDDEN, heads)]
    share = [(1, OBS_DIM, HIDDEN)] * CRITICS
    k = num_particles
    values = [(k, ACTION_DIM, HIDDEN), (k, HIDDEN, HIDDEN), (k, HIDDEN, 1)]
    gradient = [(k, HIDDEN, HIDDEN), (k, HIDDEN, ACTION_DIM)]
    steps = refinement_steps
    return policy + share + CRITICS * ((steps + 1) * values + steps * gradient)


def products_alone(shapes: list[tuple[int, int, int]]) -> Callable[[], Any]:
    """Runs the matrix products and nothing else."""
    graph, rng = GraphBuilder(), np.random.default_rng(0)
    inputs, outputs = {}, {}
    for index, (rows, fan_in, fan_out) in enumerate(shapes):
        weight = graph.constant(f"weight{index}", rng.standard_normal((fan_in, fan_out)))
        inputs[f"x{rows}_{fan_in}"] = (rows, fan_in)
        outputs[graph.add("MatMul", f"x{rows}_{fan_in}", weight, out=f"y{index}")] = (rows, fan_out)
    session = ort.InferenceSession(
        graph.model(inputs, outputs).SerializeToString(), one_thread(), providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    buffers = []
    for name, shape in inputs.items():
        buffers.append(rng.standard_normal(shape, dtype=np.float32))
        binding.bind_cpu_input(name, buffers[-1])
    for name, shape in outputs.items():
        buffers.append(np.zeros(shape, np.float32))
        binding.bind_output(name, "cpu", 0, np.float32, shape, buffers[-1].ctypes.data)

    def run(_keep: list[Any] = buffers) -> None:
        session.run_with_iobinding(binding)

    return run


def one_thread() -> ort.SessionOptions:
    """As the reader sets them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def measure(calls: list[Callable[[], Any]], number: int) -> list[list[float]]:
    """Durations in µs of every call, taken in turns so that the machine's moods meet all alike."""
    taken: list[list[float]] = [[] for _ in calls]
    gc.disable()
    for turn in range(number + number // 10):
        for call, durations in zip(calls, taken, strict=True):
            start = time.perf_counter_ns()
            call()
            if turn >= number // 10:
                durations.append((time.perf_counter_ns() - start) / 1e3)
    gc.enable()
    return taken


def row(artifact: Artifact, num_particles: int, draws: int) -> dict[str, Any]:
    """One line of the table."""
    spec = artifact.contract.sampler
    sampler = artifact.sampler(num_particles)
    rng = np.random.default_rng(0)
    obs, noise = rng.standard_normal(OBS_DIM), rng.standard_normal(sampler.noise_shape)
    alone = products_alone(products(num_particles, spec.refinement_steps))
    draw, bound, floor = measure(
        [
            lambda: sampler.draw(obs, noise),
            lambda: sampler._session.run_with_iobinding(sampler._binding),
            alone,
        ],
        draws,
    )
    return {
        "K": num_particles,
        "M": spec.refinement_steps,
        "choice": spec.choice,
        **{f"draw_p{q}_us": float(np.percentile(draw, q)) for q in (50, 99)},
        "bound_p50_us": float(np.median(bound)),
        "products_p50_us": float(np.median(floor)),
        "ratio": float(np.median(draw) / np.median(floor)),
    }


def main(
    *,
    draws: int = 3000,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the table as Markdown."""
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, onnxruntime {ort.__version__}, one thread; µs\n")
    print("| K | M | choice | draw p50 | p99 | onnxruntime alone | matrix products alone | draw / products |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for steps, choice in [
            *product((0, 1, 4), ["best"]),
            (0, "best_with_hysteresis"),
            (0, "medoid"),
            (0, "sample"),
        ]:
            artifact = untrained_artifact(
                Path(folder) / "policy.onnx",
                INTERFACE,
                num_particles=COMPONENTS,
                hidden=HIDDEN,
                options=SamplerOptions(refinement_steps=steps, choice=choice),
            )
            for num_particles in (1, 8, 16, 32, 256):
                if choice == "sample" and num_particles % COMPONENTS:
                    continue
                fewer = 1 if num_particles * (1 + steps) <= 64 else 10
                line = row(artifact, num_particles, draws // fewer)
                rows.append(line)
                print(
                    "| {K} | {M} | {choice} | {draw_p50_us:.0f} | {draw_p99_us:.0f} | {bound_p50_us:.0f} "
                    "| {products_p50_us:.0f} | {ratio:.2f} |".format(**line),
                    flush=True,
                )
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
