"""Jinja templates rendered in a sandbox with bounds on steps, time and output."""
