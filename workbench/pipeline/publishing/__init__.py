"""The push step: sends an adapter or model to the Hugging Face Hub."""
