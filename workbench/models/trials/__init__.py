"""Faster ways to compute a model of transformers' own class, each used only if a trial finds it exact."""
