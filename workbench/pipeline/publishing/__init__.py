"""The push step, which sends an adapter or model to the Hugging Face Hub, and the check of exported files."""
