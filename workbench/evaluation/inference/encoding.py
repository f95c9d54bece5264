"""Texts to token numbers, the way that lm-evaluation-harness does it, so that scores can be compared."""

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
    """Token numbers of whole texts, with the tokenizer's beginning token unless the text has it already.

    Args:
        tokenizer: the model's.
        texts: what is encoded; special tokens in them are special tokens.
        beginning: a text that begins so gets no special tokens before it; None: the beginning token.
        closed: with the tokens that the tokenizer puts after a text, if any. Otherwise they are left out,
            since they would part a prompt from its answer.
    """
    beginning = str(tokenizer.bos_token or "") if beginning is None else beginning
    begun = [bool(beginning) and text.startswith(beginning) for text in texts]
    num_after = 0 if closed else len(special_frame(tokenizer)[1])
    encoded: list[list[int]] = [[] for _ in texts]
    for special in (True, False):
        chosen = [index for index, already in enumerate(begun) if already != special]
        if chosen:
            ids = _encode(tokenizer, [texts[index] for index in chosen], special)
            for index, tokens in zip(chosen, ids, strict=True):
                encoded[index] = tokens[: len(tokens) - num_after] if special else tokens
    return encoded


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], special: bool) -> list[list[int]]:
    with _quiet_length(tokenizer):
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=special)["input_ids"]
    return ids


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], whole_text: bool = False
) -> list[TokenRequest]:
    """Requests that score each continuation after its context.

    Context and continuation are encoded as one text and then parted, and spaces at the end of a context
    belong to the continuation. Source: lm-evaluation-harness 0.4.13, `api/model.py`, `_encode_pair`.

    Where the last token of the context is another one in the whole text, the harness keeps the context's own
    tokens, then takes the whole text's from the same number on. With `whole_text` the tokens are the whole
    text's, scored from the first one that isn't the context's.

    A continuation that adds no token gives a request of which nothing is scored; `refuse_empty` finds it.
    """
    moved = [_move_spaces(context, continuation) for context, continuation in pairs]
    contexts = list(dict.fromkeys(context for context, _ in moved))
    start = start_token(tokenizer)
    beginning = str(tokenizer.decode([start]))
    encoded = encode(tokenizer, contexts, beginning)
    context_tokens = dict(zip(contexts, encoded, strict=True))
    texts = encode(tokenizer, [context + continuation for context, continuation in moved], beginning)
    alone = [continuation for context, continuation in pairs if not context]
    alone_tokens = iter(_encode(tokenizer, alone, False) if alone else [])
    requests = []
    for (written, _), (context, _), tokens in zip(pairs, moved, texts, strict=True):
        if not written:
            own = next(alone_tokens)
            requests.append(TokenRequest(tuple(own if own[:1] == [start] else [start, *own]), 1))
        elif not context_tokens[context]:  # only white space, before which the tokenizer puts nothing
            requests.append(TokenRequest((start, *tokens), 1))
        else:
            requests.append(_parted(context_tokens[context], tokens, start, whole_text))
    return requests


def _parted(before: list[int], tokens: list[int], start: int, whole_text: bool) -> TokenRequest:
    """The request for a whole text, given the tokens of its context."""
    if not whole_text:
        return TokenRequest((*before, *tokens[len(before) :]), len(before))
    first = num_common(before, tokens)
    return TokenRequest(tuple(tokens), first) if first else TokenRequest((start, *tokens), 1)


def num_common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def refuse_empty(request: TokenRequest, pair: tuple[str, str], where: str) -> None:
    """Refuse a choice of which nothing can be scored.

    Raises:
        DataError: the continuation adds no token to its context.
    """
    if request.first >= len(request.tokens):
        context, continuation = pair
        raise DataError(
            f"{where}: the answer {continuation!r} adds no token after {context[-20:]!r}, so nothing can be "
            "scored (another delimiter, or scoring=whole-text)"
        )


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
