"""Log-likelihoods, generated texts and label probabilities from Hugging Face models."""
