"""Tokenizers: loading, conversion from SentencePiece, and training of vocabularies."""
