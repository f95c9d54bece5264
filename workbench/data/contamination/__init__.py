"""Finds the items of benchmarks that training rows contain, word for word or nearly so."""
