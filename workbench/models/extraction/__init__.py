"""Extracts a LoRA from the difference of two checkpoints."""
