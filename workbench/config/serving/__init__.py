"""The sections of models over HTTP: those that are served, and those behind an endpoint."""
