"""Memory, tokens and time of a training, estimated from shapes and rows alone."""
