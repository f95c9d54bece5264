"""Finds the columns of the board, and reads the item scores of all models in them."""
