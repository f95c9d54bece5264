"""The model's operations: attention, element-wise functions, losses and linear layers, with fast kernels."""
