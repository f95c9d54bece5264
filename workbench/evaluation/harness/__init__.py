"""Runs tasks of lm-evaluation-harness, which the optional extra `lm-eval` installs, on this engine."""
