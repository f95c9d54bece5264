"""Translates jobs of LLaMA-Factory, axolotl and TRL into commands, for error messages."""
