"""Tests differences between models: in columns, in means, in subjects, and for forgetting."""
