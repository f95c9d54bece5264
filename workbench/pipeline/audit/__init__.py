"""Asks a random sample of a run's recorded answers again."""
