"""From files of rows to batches of token ids whose loss falls on answers only."""
