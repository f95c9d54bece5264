"""Combines several LoRA adapters into one adapter, and merges several tuned models into one model."""
