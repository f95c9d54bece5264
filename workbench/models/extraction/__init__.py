"""Extracts a LoRA from the difference between two checkpoints, or from what another adapter does."""
