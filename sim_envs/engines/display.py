"""Tells whether there is a screen to open a window on."""

import os
import sys

from wpg.sim_envs.errors import RenderError

VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY")


def has_display() -> bool:
    """Whether an environment variable names a screen, or the system uses no such variables."""
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in VARIABLES)


def require_display() -> None:
    """Raise an error if there is no screen.

    Raises:
        RenderError: there is no screen.
    """
    if not has_display():
        raise RenderError(f"no display to open a window on: {' and '.join(VARIABLES)} are not set")
