"""Exceptions of `wpg.controllers`.

ControllersError
├── ConfigError (ValueError)            a setting is out of range, or a configuration file is malformed
├── UnknownEnvError (ValueError)        no environment of that name is registered
├── UnsupportedEnvError (ValueError)    the environment cannot be made here, cannot be trained on, or does
│                                       not fit the policy
├── FaultyEnvError (RuntimeError)       an environment gave a number that is not finite, or an episode
│                                       that does not end
├── ForkedProcessError (RuntimeError)   a forked process ended unexpectedly, or failed with an error that
│                                       cannot be sent to this process
├── DemonstrationError (ValueError)     demonstrations cannot be read, or do not fit the environment
├── RunFolderError (OSError)            the run folder exists already, is not a run folder, or another
│                                       process trains in it
├── CheckpointWriteError (OSError)      a checkpoint could not be written; the previous one is intact
├── CheckpointFormatError (ValueError)  a checkpoint is truncated, foreign or of another version
└── DivergenceError (ArithmeticError)   a training quantity stopped being finite, or exploded
"""


class ControllersError(Exception):
    """Root of everything that `wpg.controllers` raises on purpose."""


class ConfigError(ControllersError, ValueError):
    """A setting is out of range, or a configuration file is malformed."""


class UnknownEnvError(ControllersError, ValueError):
    """No environment of that name is registered with Gymnasium."""


class UnsupportedEnvError(ControllersError, ValueError):
    """The environment cannot be made here, or its spaces or observations do not fit the learner or policy."""


class FaultyEnvError(ControllersError, RuntimeError):
    """An environment returned a number that is not finite in float32, or an episode does not end."""


class ForkedProcessError(ControllersError, RuntimeError):
    """A forked process ended unexpectedly, or raised an error that cannot be sent to this process."""


class DemonstrationError(ControllersError, ValueError):
    """Demonstrations cannot be read, or do not have the environment's sizes, or leave its action box."""


class RunFolderError(ControllersError, OSError):
    """The run folder exists already, is not a run folder, or another process trains in it."""


class CheckpointWriteError(ControllersError, OSError):
    """A checkpoint could not be written; the previous one is intact."""


class CheckpointFormatError(ControllersError, ValueError):
    """A checkpoint is truncated, foreign or of another version."""


class DivergenceError(ControllersError, ArithmeticError):
    """A training quantity stopped being finite, or exploded."""
