"""Texts to token numbers, the way that lm-evaluation-harness does it, so that scores can be compared."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.evaluation.prefix_tree import TokenRequest


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of whole prompts, with the tokenizer's beginning token unless the text has it already."""
    bos = tokenizer.bos_token
    has_bos = [bool(bos) and text.startswith(str(bos)) for text in texts]
    encoded: list[list[int]] = [[] for _ in texts]
    for special in (True, False):
        chosen = [i for i, already in enumerate(has_bos) if already != special]
        if chosen:
            ids = _encode(tokenizer, [texts[i] for i in chosen], special)
            for index, tokens in zip(chosen, ids, strict=True):
                encoded[index] = tokens
    return encoded


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], special: bool) -> list[list[int]]:
    with _quiet_length(tokenizer):
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=special)["input_ids"]
    eos = tokenizer.eos_token_id
    if special and eos is not None and eos != tokenizer.bos_token_id:
        # A tokenizer that closes every text would part the prompt from its answer.
        ids = [tokens[:-1] if tokens and tokens[-1] == eos else tokens for tokens in ids]
    return ids


def encode_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]) -> list[TokenRequest]:
    """Requests that score each continuation after its context.

    Context and continuation are encoded as one text and then parted, and spaces at the end of a context
    belong to the continuation. Source: lm-evaluation-harness 0.4.13, `api/model.py`, `_encode_pair`.
    """
    moved = [_move_spaces(context, continuation) for context, continuation in pairs]
    contexts = list(dict.fromkeys(context for context, _ in moved))
    whole = [context + continuation for context, continuation in moved]
    encoded = encode(tokenizer, contexts + whole)
    lengths = dict(zip(contexts, map(len, encoded[: len(contexts)]), strict=True))
    start = start_token(tokenizer)
    requests = []
    for (context, _), tokens in zip(moved, encoded[len(contexts) :], strict=True):
        if context == "" and tokens[:1] != [start]:
            tokens = [start, *tokens]
        first = lengths[context] if context else 1
        requests.append(TokenRequest(tuple(tokens), max(1, min(first, len(tokens) - 1))))
    return requests


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What stands before a text without context: the beginning token, else the end token."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    start = bos if bos is not None else eos
    return int(start) if start is not None else 0


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens the model can read."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else min(int(tokenizer.model_max_length), 2048)


@contextmanager
def _quiet_length(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Keeps the tokenizer from warning about long texts: lengths are checked against the model here."""
    length, tokenizer.model_max_length = tokenizer.model_max_length, 1 << 60
    try:
        yield
    finally:
        tokenizer.model_max_length = length


def pad(
    batch: Sequence[Sequence[int]], side: str, device: torch.device, token: int = 0
) -> tuple[Tensor, Tensor]:
    """Token numbers and attention mask (batch, longest), padded on one side with a token that is masked."""
    length = max(len(tokens) for tokens in batch)
    ids = torch.full((len(batch), length), token, dtype=torch.long)
    mask = torch.zeros(len(batch), length, dtype=torch.long)
    for row, tokens in enumerate(batch):
        place = slice(0, len(tokens)) if side == "right" else slice(length - len(tokens), length)
        ids[row, place] = torch.tensor(tokens)
        mask[row, place] = 1
    return ids.to(device), mask.to(device)


def batches(inputs: list[tuple[int, ...]], budget: int) -> Iterator[list[tuple[int, ...]]]:
    """Runs of sequences, in order, of at most `budget` tokens with padding, or of one longer sequence."""
    batch: list[tuple[int, ...]] = []
    for read in inputs:
        if batch and len(read) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(read)
    if batch:
        yield batch
