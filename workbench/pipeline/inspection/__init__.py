"""Steps that examine checkpoints and adapters without running a model: diagnose, extract, adapter_info."""
