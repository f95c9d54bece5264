"""Extracts the stated answer from a generated text, Chinese or English, by the type of answer."""
