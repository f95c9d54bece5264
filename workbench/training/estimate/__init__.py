"""Estimates memory, tokens and time of a training from the model's shape and the rows."""
