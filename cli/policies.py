"""Loads the policy that a command is given: an exported file, or a run folder that holds one."""

from pathlib import Path
from typing import Annotated

import tyro

from wpg.cli.options import CommandError
from wpg.export.artifact import Artifact
from wpg.export.interface import PolicyInterface
from wpg.export.reader import load_artifact
from wpg.hardware_bridge.keys import read_key

POLICY_NAME = "policy.onnx"
"""The exported file in a run folder."""

PolicyPath = Annotated[
    Path,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="POLICY", help="An exported policy (.onnx), or a run folder that holds policy.onnx."
    ),
]


def load_policy(path: Path, key: Path | None = None) -> Artifact:
    """The artifact in a file, or in a run folder.

    Args:
        path: .onnx file or run folder.
        key: file with the key that the policy must be signed with; None checks no signature.

    Raises:
        CommandError: a folder without an exported policy.
        ArtifactError: the file is refused.
    """
    file = path / POLICY_NAME if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise CommandError(f"{path}: no {POLICY_NAME} in this folder; if it is a run: wpg export {path}")
    return load_artifact(file, None if key is None else read_key(key))


def why_not_on_robot(interface: PolicyInterface) -> str:
    """Why `wpg transfer` cannot compare a policy on a robot with its simulator; empty if it can."""
    goal = interface.goal
    if goal is None:
        return "has no goals"
    if goal.object_term is not None:
        return f"has goals for {goal.object_term}"
    return "needs its goals given" if goal.given else ""
