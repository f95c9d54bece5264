"""Turns the rows of benchmark files into items with prompts and targets."""
