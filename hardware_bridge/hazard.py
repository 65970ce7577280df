"""What can be wrong during a run: the value that every check of the control loop returns."""

from typing import NamedTuple


class Hazard(NamedTuple):
    """Something that is wrong now, and makes the control loop hold the arm or end the run."""

    name: str
    """Stable name, under which reports count it."""
    detail: str
    """What was found, as a sentence for the user."""
