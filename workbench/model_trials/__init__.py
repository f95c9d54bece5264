"""What trials of a loaded model have in common: at which lengths and scales they run, and how they end.

Training and evaluation, which are handed their models, try whole batches by it: whether joined rows or a
shared prefix give each text the numbers that it has alone. The trials in `workbench.models.trials` are of
single layers and replace their code, so they are in the room of models.
"""
