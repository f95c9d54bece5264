"""Combines several adapters into one, and merges several models into one."""
