"""Checks loss masks and stop tokens before training."""
