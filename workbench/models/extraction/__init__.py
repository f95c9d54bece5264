"""Extracts a LoRA from the difference between two checkpoints, or from the effect of another adapter."""
