"""Collects the results of all runs below a folder and compares their models in the terminal and on a page."""
