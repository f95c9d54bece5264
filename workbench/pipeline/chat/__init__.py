"""The chat step: a conversation in the terminal or through a pipe."""
