"""Names the attention implementations that take boolean masks."""

BOOLEAN_MASKED = ("sdpa", "xformers", "blocked")
"""Attention implementations that take a boolean mask; the others take an additive mask."""
