"""Computes metrics of items, scores of benchmarks, and their statistics."""
