"""The steps of a run, and the run itself."""
