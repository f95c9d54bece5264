"""Writes the leaderboard as one HTML file that works without a network."""
