"""Writes the leaderboard's files for other programs: CSV, Parquet, JSON, LaTeX, Markdown and pictures."""
