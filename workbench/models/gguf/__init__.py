"""Reads and writes GGUF files, llama.cpp's model format."""
