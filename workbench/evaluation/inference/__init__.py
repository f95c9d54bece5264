"""Computes log-likelihoods, generated texts and label probabilities with Hugging Face models."""
