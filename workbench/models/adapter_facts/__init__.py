"""Measures adapters without their base: norms, ranks, and the angles between two of them."""
