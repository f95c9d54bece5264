"""Sections of a benchmark that say how it is asked and answered: generated texts, and named protocols."""
