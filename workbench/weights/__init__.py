"""Reads, changes and writes a model's weights tensor by tensor, with torch and safetensors alone."""
