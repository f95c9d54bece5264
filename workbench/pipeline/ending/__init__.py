"""The end of a run: its summary, and its objective for a sweep."""
