"""Checks a run before its first step; the checks of a step are imported if the run has it."""
