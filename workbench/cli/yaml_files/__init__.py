"""Finds, checks and loads the YAML files that a command reads."""
