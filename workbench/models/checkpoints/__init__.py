"""Checkpoints: locates, reads and checks model folders and files."""
