"""What a policy was trained with."""

import subprocess
from importlib import metadata

RECORDED_PACKAGES = ("wpg", "torch", "numpy", "gymnasium", "mujoco", "pybullet", "onnx", "onnxruntime")


def installed_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, where installed."""
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def checkout_commit() -> str | None:
    """Commit of the checkout that this process runs in, if it runs in one and git tells in time."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
