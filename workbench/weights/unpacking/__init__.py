"""Weights that another tool quantized, dequantized to float32 some rows at a time."""
