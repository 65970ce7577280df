"""What can go wrong in simulation.

::

    SimulationError
    ├── EngineError (ImportError)   a physics engine is unknown or not installed
    ├── EffectsError (ValueError)   effects that do not hold together, or not with this robot
    ├── IdentificationError         a run log that nothing can be learned from
    └── RenderError                 no OpenGL that works without a screen, or no screen
        └── WindowClosed            the window that showed the scene was closed

A robot that does not hold together is a :class:`wpg.hardware_bridge.errors.DescriptionError`.
"""


class SimulationError(RuntimeError):
    """Root of everything that simulation raises."""


class EngineError(SimulationError, ImportError):
    """A physics engine is unknown or not installed."""


class EffectsError(SimulationError, ValueError):
    """Effects that do not hold together, or not with this robot."""


class IdentificationError(SimulationError):
    """A run log that nothing can be learned from, or not what was asked."""


class RenderError(SimulationError):
    """Pictures cannot be made on this machine."""


class WindowClosed(RenderError):  # noqa: N818  nothing went wrong
    """The window that showed the scene was closed."""
