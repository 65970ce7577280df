"""A training run: its loop, its folder and its checkpoints, and what it shows."""
