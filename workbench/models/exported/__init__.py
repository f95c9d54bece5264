"""Compares exported files with their model, as other tools read them."""
