"""The check of loss masks and stop tokens before training."""
