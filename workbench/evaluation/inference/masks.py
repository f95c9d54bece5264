"""Attention masks that evaluation builds itself."""

BOOLEAN_MASKED = ("sdpa", "xformers")
"""Attention implementations that take a boolean mask; others get a mask of numbers to add."""
