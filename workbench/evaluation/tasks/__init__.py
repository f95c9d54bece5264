"""Answers each type of benchmark: multiple choice, generation, classification, perplexity."""
