"""Versions of packages and code that a policy was trained with."""

import subprocess
from importlib import metadata

RECORDED_PACKAGES = ("wpg", "torch", "numpy", "gymnasium", "mujoco", "pybullet", "onnx", "onnxruntime")


def installed_versions() -> dict[str, str]:
    """Versions of those packages that results depend on, as far as they are installed."""
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def checkout_commit() -> str | None:
    """Git commit of the working directory, with `-dirty` at the end if tracked files have been changed since.

    None outside a checkout, before its first commit, or if git does not answer in time.
    """
    describe = ("git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty")
    try:
        answer = subprocess.run(describe, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
