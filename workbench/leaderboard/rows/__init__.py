"""Finds the rows of the board: models, known by content, with unique names."""
