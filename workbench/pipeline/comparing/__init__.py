"""The compare step: compares two models by their results, or asks them until a test has decided."""
