"""Rows that a training holds out, and the benchmarks that they make."""
