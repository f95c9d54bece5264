"""Finds the rows of the leaderboard: models, identified by their content, with unique names."""
