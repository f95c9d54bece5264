"""Trains a model with the Hugging Face Trainer; an interrupted training resumes bit for bit."""
