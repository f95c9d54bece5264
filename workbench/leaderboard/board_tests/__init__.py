"""Tests the differences of models: on columns and means, in subjects, and on what was not trained for."""
