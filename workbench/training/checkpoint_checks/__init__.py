"""Checks the contents of a checkpoint's files before any of them is loaded."""
