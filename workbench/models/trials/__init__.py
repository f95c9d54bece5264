"""Faster ways to compute a model of transformers' own class, each used only where a trial finds it exact."""
