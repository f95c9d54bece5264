"""Merges adapters into their base models, and proves the merged models before they are published."""
