"""The label that training, the loss and the report on rows agree on."""

IGNORED = -100
"""The label of a token that no loss falls on: what PyTorch's cross entropy leaves out."""
