"""Scores any Hugging Face model on benchmarks described by data. Importing this package loads nothing."""
