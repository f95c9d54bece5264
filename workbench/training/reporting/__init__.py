"""Writes train.jsonl and the loss plot of a training."""
