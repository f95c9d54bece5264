"""Finds the stated answer in a generated text, Chinese or English; one module a kind of answer."""
