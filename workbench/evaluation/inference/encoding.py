"""Encodes texts as token ids in the same way as lm-evaluation-harness, so that scores are comparable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.tokens.segments import special_frame
from workbench.errors import DataError
from workbench.evaluation.inference.prefix_tree import TokenRequest


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    beginning: str | None = None,
    closed: bool = False,
) -> list[list[int]]:
    """Return the token ids of texts, with the special tokens that the tokenizer puts before a text.

    A text that starts with the BOS token already gets none.

    Args:
        tokenizer: tokenizer of the model.
        texts: texts to encode; special tokens in a text get their own ids.
        beginning: a text that starts with this text gets no special tokens; None: the text of the BOS token.
        closed: whether to keep the special tokens that the tokenizer puts after a text. They would separate
            a prompt from its answer.
    """
    beginning = str(tokenizer.bos_token or "") if beginning is None else beginning
    has_beginning = [bool(beginning) and text.startswith(beginning) for text in texts]
    num_after = 0 if closed else len(special_frame(tokenizer)[1])
    encoded: list[list[int]] = [[] for _ in texts]
    for special in (True, False):
        indices = [index for index, begins in enumerate(has_beginning) if begins != special]
        if indices:
            ids = _encode(tokenizer, [texts[index] for index in indices], special)
            for index, tokens in zip(indices, ids, strict=True):
                encoded[index] = tokens[: len(tokens) - num_after] if special else tokens
    return encoded


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], special: bool) -> list[list[int]]:
    with _quiet_length(tokenizer):
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=special)["input_ids"]
    return ids


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], whole_text: bool = False
) -> list[TokenRequest]:
    """Return one request per (context, continuation), which scores the tokens of the continuation.

    Context and continuation are encoded as one text and then split; spaces at the end of a context belong to
    the continuation. Source: lm-evaluation-harness 0.4.13, `api/model.py`, `_encode_pair`.

    The two ways differ only if the continuation changes the last token of the context. The harness then puts
    the tokens of the context alone before those of the whole text from the same index on. With `whole_text`,
    the request has the tokens of the whole text, and scores them from the first that differs.

    A continuation that adds no token gives a request without scored tokens; `refuse_empty` reports it.
    """
    normalized = [_move_spaces(context, continuation) for context, continuation in pairs]
    contexts = list(dict.fromkeys(context for context, _ in normalized))
    start = start_token(tokenizer)
    start_text = str(tokenizer.decode([start]))
    encoded = encode(tokenizer, contexts, start_text)
    context_tokens = dict(zip(contexts, encoded, strict=True))
    texts = encode(tokenizer, [context + continuation for context, continuation in normalized], start_text)
    alone = [continuation for context, continuation in pairs if not context]
    alone_tokens = iter(_encode(tokenizer, alone, False) if alone else [])
    requests = []
    for (original_context, _), (context, _), tokens in zip(pairs, normalized, texts, strict=True):
        if not original_context:
            ids = next(alone_tokens)
            requests.append(TokenRequest(tuple(ids if ids[:1] == [start] else [start, *ids]), 1))
        elif not context_tokens[context]:  # white space only, and a tokenizer without BOS token
            requests.append(TokenRequest((start, *tokens), 1))
        else:
            requests.append(_split_request(context_tokens[context], tokens, start, whole_text))
    return requests


def _split_request(
    context_tokens: list[int], tokens: list[int], start: int, whole_text: bool
) -> TokenRequest:
    """Return the request that scores a continuation, see `encode_pairs`.

    `context_tokens` encode the context alone, `tokens` context and continuation as one text.
    """
    if not whole_text:
        return TokenRequest((*context_tokens, *tokens[len(context_tokens) :]), len(context_tokens))
    first = num_common(context_tokens, tokens)
    return TokenRequest(tuple(tokens), first) if first else TokenRequest((start, *tokens), 1)


def num_common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def refuse_empty(request: TokenRequest, pair: tuple[str, str], where: str) -> None:
    """Check that a choice has a token to score.

    Raises:
        DataError: The continuation adds no token to its context.
    """
    if request.first >= len(request.tokens):
        context, continuation = pair
        raise DataError(
            f"{where}: the answer {continuation!r} adds no token after {context[-20:]!r}, so nothing can be "
            "scored (use another delimiter, or scoring=whole-text)"
        )


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token before a text without context: BOS, else EOS, else 0."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    start = bos if bos is not None else eos
    return int(start) if start is not None else 0


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens that the model can read.

    If its config has none, it is the tokenizer's limit, at most 2,048.
    """
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else min(int(tokenizer.model_max_length), 2048)


@contextmanager
def _quiet_length(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Suppress the tokenizer's warning about long texts; lengths are checked against the model instead."""
    length, tokenizer.model_max_length = tokenizer.model_max_length, 1 << 60
    try:
        yield
    finally:
        tokenizer.model_max_length = length


def pad(
    batch: Sequence[Sequence[int]], side: str, device: torch.device, token: int = 0
) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask (batch, longest), padded on one side with a masked token."""
    length = max(len(tokens) for tokens in batch)
    ids = torch.full((len(batch), length), token, dtype=torch.long)
    mask = torch.zeros(len(batch), length, dtype=torch.long)
    for row, tokens in enumerate(batch):
        columns = slice(0, len(tokens)) if side == "right" else slice(length - len(tokens), length)
        ids[row, columns] = torch.tensor(tokens)
        mask[row, columns] = 1
    return ids.to(device), mask.to(device)


def batches(inputs: list[tuple[int, ...]], budget: int) -> Iterator[list[tuple[int, ...]]]:
    """Yield batches of consecutive sequences with at most `budget` tokens each, padding included.

    The sequences must be sorted by length, the longest last. A sequence longer than `budget` is a batch by
    itself.
    """
    batch: list[tuple[int, ...]] = []
    for tokens in inputs:
        if batch and len(tokens) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(tokens)
    if batch:
        yield batch
