"""Combines several adapters, as the merge step does first."""
