"""Defines the label of tokens that carry no loss."""

IGNORED = -100
"""Label of a token that carries no loss: the `ignore_index` of PyTorch's cross entropy."""
