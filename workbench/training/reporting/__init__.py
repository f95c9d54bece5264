"""What a training reports: train.jsonl, the loss plot, TensorBoard."""
