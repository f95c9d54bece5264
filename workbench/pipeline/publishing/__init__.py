"""The push step: an adapter or model on the Hugging Face Hub."""
