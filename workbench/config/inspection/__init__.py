"""Sections of the recipes that examine checkpoints and adapters: diagnose, extract, adapter-info."""
