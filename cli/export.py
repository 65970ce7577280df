"""``wpg export``: a run's policy as one ONNX file."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from wpg.cli.environments import register_environments


def export(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    *,
    out: Path | None = None,
    particles: int | None = None,
    refine: int = 0,
) -> None:
    """Export a run's policy: graph and contract in one file, checked against the policy before it is written.

    Args:
        run: A run folder.
        out: The file to write; by default policy.onnx in the run folder.
        particles: Particles drawn by default; the file takes any number.
        refine: Langevin steps on the critic's action gradient after the draw.
    """
    from wpg.cli.artifacts import export_run  # noqa: PLC0415  torch is not part of the bare bridge

    register_environments()
    path = export_run(run, out or run / "policy.onnx", particles=particles, refinement_steps=refine)
    Console().print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; next: wpg inspect {path}")
