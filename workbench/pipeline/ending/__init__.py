"""The end of a run: its summary, and the objective value that a sweep optimizes."""
