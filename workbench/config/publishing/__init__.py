"""Sections of the recipes that write a model for other tools (export) or send it to the Hub (push)."""
