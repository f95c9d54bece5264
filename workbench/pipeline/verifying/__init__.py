"""The verify_endpoint step: is the model behind an endpoint the one that was scored?"""
