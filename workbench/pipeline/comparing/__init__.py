"""The compare step: two models, on results that are there or asked until their difference is decided."""
