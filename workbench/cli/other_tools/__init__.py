"""Translates configuration files and flags of LLaMA-Factory, axolotl and TRL into commands, for messages."""
