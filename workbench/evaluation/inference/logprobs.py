"""Reads log-probabilities of tokens from logits."""

import torch
from torch import Tensor

_LOGIT_CELLS = 1 << 20
"""Logits converted to float32 at a time: 4 MB, which fit into a processor's cache."""


def logprobs(logits: Tensor, rows: list[int], tokens: list[int]) -> list[tuple[float, bool]]:
    """Return (log-probability in nats, whether the token is the argmax) for each tokens[i].

    tokens[i] is scored by row rows[i] of `logits` (N, V), in float32.
    """
    if not rows:
        return []
    top = logits.amax(-1)
    row, token = torch.tensor(rows, device=logits.device), torch.tensor(tokens, device=logits.device)
    token_logits = logits[row, token]
    values = token_logits.float() - log_normalizers(logits, top)[row]
    is_argmax = token_logits == top[row]
    ties = is_argmax.nonzero()[:, 0]  # of several equal maxima, the first one counts
    is_argmax[ties] = logits[row[ties]].max(-1).indices == token[ties]
    return list(zip(values.tolist(), is_argmax.tolist(), strict=True))


def log_normalizers(logits: Tensor, top: Tensor) -> Tensor:
    """Return the logarithm (N,) of the sum of each row's exponentials, in float32.

    torch's log_softmax sums less exactly on a CPU: with SmolLM2's 49,152 tokens in float32, the value of a
    token was 4e-6 to 8e-6 nats too high, and that of a text up to 5e-4.

    Args:
        logits: (N, V).
        top: (N,), the largest logit of each row.
    """
    size = max(1, _LOGIT_CELLS // logits.shape[-1])
    normalizers = []
    for chunk, maxima in zip(torch.split(logits, size), torch.split(top.float(), size), strict=True):
        shifted = chunk.to(torch.float32, copy=True).sub_(maxima[:, None])
        normalizers.append(shifted.exp_().sum(-1).log_().add_(maxima))
    return torch.cat(normalizers)
