"""Settings of every test here."""

import torch

# The matrices are tiny: handing them to several threads takes ten times as long as multiplying them.
torch.set_num_threads(1)
