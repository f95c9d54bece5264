"""Measures adapters without their base: norms and ranks of the updates, and angles between two adapters."""
