"""Renders conversations with chat templates and marks the answers in the text."""
