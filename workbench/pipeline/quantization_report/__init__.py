"""The quantization_report step: compares one model in several number formats on the same items."""
