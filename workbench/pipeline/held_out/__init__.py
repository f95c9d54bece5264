"""Rows that a training held out, and the benchmarks made from them."""
