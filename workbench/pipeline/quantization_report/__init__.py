"""The quantization_report step: one model held in several ways, on the same items and texts."""
