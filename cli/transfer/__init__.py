"""One artifact in two places: will it work there, and what limits it."""
