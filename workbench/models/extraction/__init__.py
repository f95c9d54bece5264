"""Extracts a LoRA from the difference between two checkpoints."""
