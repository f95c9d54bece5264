"""Reads files of rows and builds batches of token ids in which the loss falls on answers only."""
