"""The model's operations: attention, element-wise work, losses and linear layers, with their fast paths."""
