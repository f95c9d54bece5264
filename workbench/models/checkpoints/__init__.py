"""Checkpoint folders: where they are, what is in them, whether it fits the model."""
