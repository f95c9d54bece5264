"""Benchmarks: from files of rows to items with their prompts and targets."""
