"""Combines several adapters or models, as the merge step does first."""
