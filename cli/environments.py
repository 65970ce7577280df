"""Makes the environments of wpg and of other packages known to Gymnasium."""

from importlib.metadata import entry_points


def register_environments() -> None:
    """Load what packages registered under the entry point group ``gymnasium.envs``, wpg's own among them.

    Gymnasium loaded these by itself before 1.0.
    """
    for entry in entry_points(group="gymnasium.envs"):
        entry.load()()
