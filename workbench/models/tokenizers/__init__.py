"""Tokenizers: loaded, converted from SentencePiece, learned from text."""
