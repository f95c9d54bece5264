"""Reads weights that another tool quantized, and dequantizes them to float32, some rows at a time."""
