"""Renders Jinja templates in a sandbox with limits on steps, time and output."""
