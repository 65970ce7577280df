"""An artifact in a C program: compiles sampler.c, holds it against the golden vectors and against Python.

    python benchmarks/runtimes/c_api.py FILE.onnx [--include DIR] [--draws 5000]

The program is linked with the library that Python's onnxruntime brings. That comes without a header, and as
ONNX Runtime's C interface is stable, any that is not newer fits: by default apt downloads Debian's
``libonnxruntime-dev`` (13 or newer) into a temporary folder; nothing is installed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnxruntime as ort

from wpg.export import Artifact, Outputs, load_artifact

PACKAGE, HEADER = "libonnxruntime-dev", "onnxruntime_c_api.h"


def fail(message: str) -> NoReturn:
    """End with one line."""
    sys.exit(f"c_api.py: {message}")


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command, or end with what it said."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        fail(f"{command[0]}: {done.stderr.strip()}")


def fetch_header(folder: Path) -> Path:
    """Folder with the header, from Debian's package."""
    run("apt-get", "download", PACKAGE, cwd=folder)
    (package,) = folder.glob(f"{PACKAGE}*.deb")
    run("dpkg-deb", "--extract", package, folder / "package", cwd=folder)
    (header,) = folder.rglob(HEADER)
    return header.parent


def compile_sampler(include: Path, folder: Path) -> Path:
    """The program, linked with the library of Python's onnxruntime."""
    (library,) = (Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*")
    linked = folder / "libonnxruntime.so.1"
    linked.symlink_to(library)
    program = folder / "sampler"
    strict = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")
    source = Path(__file__).with_name("sampler.c")
    run("cc", *strict, f"-I{include}", source, linked, f"-Wl,-rpath,{folder}", "-o", program, cwd=folder)
    return program


def rows(artifact: Artifact, draws: int) -> dict[str, np.ndarray]:
    """Inputs of the graph by name, in its order: the golden ones, then as many draws around them."""
    golden, rng = artifact.contract.golden, np.random.default_rng(0)
    obs = np.array(golden.obs, np.float32)
    noise = np.array(golden.noise, np.float32)
    chosen = rng.integers(len(obs), size=draws)
    inputs = {
        "obs": np.concatenate([obs, obs[chosen]]),
        "noise": np.concatenate([noise, rng.standard_normal((draws, *noise.shape[1:]), np.float32)]),
    }
    if golden.previous is not None:
        previous = np.array(golden.previous, np.float32)
        inputs["previous"] = np.concatenate([previous, previous[chosen]])
    return inputs


def by_c(program: Path, artifact: Artifact, inputs: dict[str, np.ndarray]) -> tuple[Outputs, np.ndarray]:
    """Outputs of the program for every row, and durations in µs."""
    number, particles = inputs["noise"].shape[:2]
    size = artifact.contract.interface.action.size
    table = np.hstack([values.reshape(number, -1) for values in inputs.values()])
    done = subprocess.run(
        [program, artifact.path, str(particles)], input=table.tobytes(), capture_output=True, check=False
    )
    if done.returncode:
        fail(done.stderr.decode().strip())
    shapes = Outputs(particles=(particles, size), values=(particles,), action=(size,), spread=())
    widths = [int(np.prod(shape)) for shape in shapes]
    found = np.frombuffer(done.stdout, np.float32).reshape(number, sum(widths) + 1)
    parts = np.split(found[:, :-1], np.cumsum(widths)[:-1], axis=1)
    outputs = (part.reshape(number, *shape) for part, shape in zip(parts, shapes, strict=True))
    return Outputs(*outputs), found[:, -1]


def by_python(artifact: Artifact, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Durations in µs of the sampler's draws."""
    sampler = artifact.sampler(inputs["noise"].shape[1])
    taken = []
    for obs, noise in zip(inputs["obs"], inputs["noise"], strict=True):
        start = time.perf_counter_ns()
        sampler.draw(obs, noise)
        taken.append((time.perf_counter_ns() - start) / 1e3)
    return np.array(taken)


def main() -> None:
    """Print errors and durations; exit with 1 where C disagrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--include", type=Path, help=f"folder that holds {HEADER}")
    parser.add_argument("--draws", type=int, default=5000)
    arguments = parser.parse_args()
    artifact = load_artifact(arguments.file)
    inputs = rows(artifact, arguments.draws)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        include = arguments.include or fetch_header(folder)
        found, c_us = by_c(compile_sampler(include.resolve(), folder), artifact, inputs)
    python_us = by_python(artifact, inputs)
    golden = artifact.contract.golden
    worst = max(
        float((np.abs(values[: len(golden.obs)] - expected) / (1 + np.abs(expected))).max())
        for name, values in found._asdict().items()
        for expected in [np.array(getattr(golden, name))]
    )
    together = artifact.run(inputs["obs"], inputs["noise"], inputs.get("previous"))
    apart = max(float(np.abs(a - b).max()) for a, b in zip(found, together, strict=True))
    print(f"golden vectors: largest error {worst:.1e} of 1 + |value|")
    print(f"{arguments.draws} draws: at most {apart:.1e} from Python's, taken as one batch")
    print(f"onnxruntime {ort.__version__}, one thread, K = {inputs['noise'].shape[1]}")
    print("| | p50 µs | p99 µs |\n|---|---|---|")
    for language, taken in (("C", c_us), ("Python", python_us)):
        p50, p99 = np.percentile(taken[len(golden.obs) :], [50, 99])
        print(f"| {language} | {p50:.0f} | {p99:.0f} |")
    if not worst <= golden.tolerance:
        fail(f"expected the golden vectors within {golden.tolerance:g}")


if __name__ == "__main__":
    main()
