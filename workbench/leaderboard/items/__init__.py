"""Finds the columns of the leaderboard, and reads the score of every item for all models in a column."""
