"""Compares any two scored models item by item, whichever tool scored them.

sides      a path -> the model whose results are in it
documents  items of two lists that ask the same question -> pairs of them
pairing    items of both models, by prompt or by document
paired     the comparison of two models on all benchmarks that both have
report     that comparison as text, CSV and JSON
"""
