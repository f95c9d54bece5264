"""Compares any two scored models item by item, whichever tool scored them.

sides      a path -> the model whose results lie there
documents  which items of two lists ask about the same document
pairing    items of both models, by prompt or by document
paired     the comparison of two models on all benchmarks that both have
report     the comparison as text, CSV and JSON
"""
