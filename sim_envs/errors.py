"""What can go wrong in simulation.

::

    SimulationError
    ├── EngineError (ImportError)   a physics engine is unknown or not installed
    └── RenderError                 no OpenGL that works without a screen

A robot that does not hold together is a :class:`wpg.hardware_bridge.errors.DescriptionError`.
"""


class SimulationError(RuntimeError):
    """Root of everything that simulation raises."""


class EngineError(SimulationError, ImportError):
    """A physics engine is unknown or not installed."""


class RenderError(SimulationError):
    """Pictures cannot be made on this machine."""
