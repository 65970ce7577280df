"""Exceptions of the simulation.

::

    SimulationError
    ├── EngineError (ImportError)   a physics engine is unknown or not installed
    ├── EffectsError (ValueError)   effects are invalid, or do not fit this robot
    ├── IdentificationError         a run log does not allow identification
    └── RenderError                 no OpenGL works without a screen, or there is no screen
        └── WindowClosed            the window that showed the scene was closed

An invalid robot description is a :class:`wpg.hardware_bridge.errors.DescriptionError`.
"""


class SimulationError(RuntimeError):
    """Base class of all exceptions of the simulation."""


class EngineError(SimulationError, ImportError):
    """A physics engine is unknown or not installed."""


class EffectsError(SimulationError, ValueError):
    """Effects are invalid, or do not fit this robot."""


class IdentificationError(SimulationError):
    """A run log does not allow identification."""


class RenderError(SimulationError):
    """Pictures cannot be made on this machine."""


class WindowClosed(RenderError):  # noqa: N818  nothing went wrong
    """The window that showed the scene was closed."""
