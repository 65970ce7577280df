"""One artefact in two places: will it work there, and what limits it."""
