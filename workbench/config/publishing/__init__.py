"""Sections of the recipes that give a model to others: export and push."""
