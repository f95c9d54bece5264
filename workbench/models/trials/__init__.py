"""Faster ways to compute a model of transformers' own class, each used only if a trial finds it exact.

They replace the code of single layers. `workbench.model_trials` is for trials of whole batches, which
training and evaluation run on a model that they are handed.
"""
