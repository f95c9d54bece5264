"""Runs programs that a model wrote in a box without network and other files and processes."""
