"""Identification of an arm's delay, lag, friction, gains and payload from the log of a run."""
