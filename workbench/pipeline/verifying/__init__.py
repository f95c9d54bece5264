"""The verify_endpoint step: checks whether the model behind an endpoint is the one that was scored."""
