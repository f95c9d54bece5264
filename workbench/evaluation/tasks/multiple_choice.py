"""Answers to multiple choice questions: how likely each choice is."""

from collections.abc import Iterator, Sequence
from itertools import cycle

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, Scoring
from workbench.errors import ConfigError
from workbench.evaluation.inference.causal_lm import Likelihood, TransformersLM
from workbench.evaluation.inference.encoding import num_common, refuse_empty
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, fit


class MultipleChoice:
    """Asks a causal model lettered or free choices, scored as the benchmark's protocol says."""

    def __init__(self, lm: TransformersLM, config: BenchmarkConfig, chat: bool = False) -> None:
        """Take the model and a benchmark whose protocol is resolved."""
        self.lm = lm
        self.config = config
        self.chat_tokenizer = lm.tokenizer if chat else None
        self._requests: dict[str, list[TokenRequest]] = {}
        self._letters: dict[str, int] = {}
        self.same_tokens: dict[str, tuple[str, str]] = {}
        """Item -> two different choices that are the same tokens and so score alike."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as this model is asked them."""
        # The last token of a sequence is only predicted, never read, so one more fits.
        return fit(examples, self._lengths, self.lm.max_length + 1, self.chat_tokenizer)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        requests = self.requests(items)
        self._requests.update({i.hash: r for i, r in zip(items, requests, strict=True)})
        self.same_tokens.update(
            found for pair in zip(items, requests, strict=True) if (found := _same(*pair))
        )
        return [max(len(request.tokens) for request in of_item) for of_item in requests]

    def requests(self, items: Sequence[Item]) -> list[list[TokenRequest]]:
        """For each item a request a choice; for acc_pmi, then one a choice after the unconditional prompt."""
        pairs = [self._pairs(item) for item in items]
        if self.config.scoring in (Scoring["next-token"], Scoring["next-piece"]):
            return self._next_tokens(items, pairs)
        whole_text = self.config.scoring != Scoring.continuation
        flat = iter(self.lm.encode_pairs([pair for of_item in pairs for pair in of_item], whole_text))
        requests = [[next(flat) for _ in of_item] for of_item in pairs]
        for item, of_item, of_pairs in zip(items, requests, pairs, strict=True):
            for request, pair in zip(of_item, of_pairs, strict=True):
                refuse_empty(request, pair, f"item {item.example.id}")
        if self.config.scoring == Scoring["mean-nll"]:
            return [[self._whole(request) for request in of_item] for of_item in requests]
        if whole_text:
            return [_parted_alike(*both) for both in zip(requests, pairs, strict=True)]
        return requests

    def _whole(self, request: TokenRequest) -> TokenRequest:
        """The request that scores all tokens but the first."""
        tokens = request.tokens if len(request.tokens) > 1 else (self.lm.start_token, *request.tokens)
        return TokenRequest(tokens, 1)

    def _pairs(self, item: Item) -> list[tuple[str, str]]:
        pairs = item.pairs
        if item.example.unconditional is not None:
            pairs = pairs + [(item.example.unconditional, continuation) for _, continuation in pairs]
        return pairs

    def _next_tokens(
        self, items: Sequence[Item], pairs: Sequence[list[tuple[str, str]]]
    ) -> list[list[TokenRequest]]:
        """Requests that score the token of each choice right after its context, even if texts have others."""
        contexts = list(dict.fromkeys(context for of_item in pairs for context, _ in of_item))
        read = {
            context: tuple(tokens) or (self.lm.start_token,)
            for context, tokens in zip(contexts, self.lm.encode(contexts), strict=True)
        }
        requests = []
        for item, of_item in zip(items, pairs, strict=True):
            letters = cycle(map(self._letter, item.example.continuations))  # acc_pmi asks for each twice
            requests.append(
                [
                    TokenRequest((*read[context], letter), len(read[context]))
                    for (context, _), letter in zip(of_item, letters, strict=False)
                ]
            )
        return requests

    def _letter(self, text: str) -> int:
        """The token that stands for a choice."""
        if text not in self._letters:
            if self.config.scoring == Scoring["next-piece"]:
                self._letters[text] = vocabulary_entry(text, self.lm.tokenizer, self.config)
            else:
                self._letters[text] = int(self.lm.tokenizer(text, add_special_tokens=False)["input_ids"][-1])
        return self._letters[text]

    def letter_warning(self, item: Item) -> str | None:
        """What is odd about the tokens that a protocol scores instead of those that the prompt leads to."""
        if self.config.scoring not in (Scoring["next-token"], Scoring["next-piece"]):
            return None
        natural_ones, [requests] = self.lm.encode_pairs(item.pairs, whole_text=True), self.requests([item])
        for pair, natural, request in zip(item.pairs, natural_ones, requests, strict=False):
            *context, scored = request.tokens
            expected = natural.tokens[len(context) :][:1]
            if list(natural.tokens[: len(context)]) != context:
                return (
                    f"the prompt's last token changes when {pair[1]!r} follows it; {self._rule} ignores that"
                )
            if expected != (scored,):
                names = self.lm.tokenizer.convert_ids_to_tokens([scored, *expected])
                return (
                    f"{self._rule} scores the answer {pair[1]!r} by token {names[0]!r}, but after the prompt "
                    f"it begins with {names[-1]!r} (scoring=continuation scores what the prompt leads to)"
                )
        return None

    @property
    def _rule(self) -> str:
        return f"protocol {self.config.protocol!r} with scoring={self.config.scoring.name}"

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known.

        Raises:
            CheckpointError: the model's logits are not numbers.
        """
        requests = [self._requests.get(item.hash) or self.requests([item])[0] for item in items]
        self._requests.clear()
        shared = self._shared(items, requests) if self.lm.invariant else []
        for number, found in by_item(self.lm, requests, shared):
            yield number, self._answer(items[number], found, requests[number])

    def _shared(self, items: Sequence[Item], requests: Sequence[list[TokenRequest]]) -> list[int]:
        """Tokens that description and examples take up at the beginning of every request of each item."""
        lengths = [item.num_shared if item.example.unconditional is None else 0 for item in items]
        texts = [item.contexts[0][:length] for item, length in zip(items, lengths, strict=True)]
        distinct = list(dict.fromkeys(texts))
        read = dict(zip(distinct, self.lm.encode(distinct), strict=True))
        return [
            min(num_common(read[text], request.tokens) for request in of_item)
            for text, of_item in zip(texts, requests, strict=True)
        ]

    def _answer(self, item: Item, found: list[Likelihood], requests: list[TokenRequest]) -> Answer:
        values = [f.loglikelihood for f in found]
        if any(value != value for value in values):
            raise not_numbers(f"item {item.example.id}")
        if self.config.scoring == Scoring["mean-nll"]:
            # Source: OpenCompass, `models/huggingface.py`, get_ppl: the loss over the number of all tokens.
            values = [value / len(request.tokens) for value, request in zip(values, requests, strict=True)]
        count = len(item.example.continuations)
        return Answer(
            loglikelihoods=tuple(values[:count]),
            num_tokens=tuple(f.num_tokens for f in found[:count]),
            greedy=tuple(f.greedy for f in found[:count]),
            unconditional=tuple(values[count:]),
        )


def vocabulary_entry(text: str, tokenizer: PreTrainedTokenizerBase, config: BenchmarkConfig) -> int:
    """The number of the token that reads like `text`.

    Raises:
        ConfigError: there is none.
    """
    [piece] = tokenizer.convert_tokens_to_ids([text])  # type: ignore[misc]
    if piece is None or piece == tokenizer.unk_token_id:
        raise ConfigError(
            f"protocol: {config.protocol!r} with scoring=next-piece wants {text!r} in the vocabulary, which "
            "has no such entry (protocol=lm-eval scores what the tokenizer makes of it)"
        )
    return int(piece)


def by_item(
    lm: TransformersLM, requests: Sequence[list[TokenRequest]], shared: Sequence[int] = ()
) -> Iterator[tuple[int, list[Likelihood]]]:
    """Number of each item and the likelihoods of its requests, as soon as all of them are known.

    Args:
        lm: the model.
        requests: of each item.
        shared: for `invariant`: tokens that each item begins with and others may begin with, too.
    """
    if lm.invariant:
        for number, of_item in enumerate(requests):
            yield number, lm.alone(of_item, shared[number] if shared else 0)
        return
    owners = [(number, place) for number, of_item in enumerate(requests) for place in range(len(of_item))]
    found: list[dict[int, Likelihood]] = [{} for _ in requests]
    for index, value in lm.stream([request for of_item in requests for request in of_item]):
        number, place = owners[index]
        found[number][place] = value
        if len(found[number]) == len(requests[number]):
            yield number, [found[number][place] for place in range(len(requests[number]))]


def _parted_alike(requests: list[TokenRequest], pairs: list[tuple[str, str]]) -> list[TokenRequest]:
    """The requests of an item, scored from the same token on wherever the context is the same.

    One choice may change the last token of the context and another may not; both then score that token.
    """
    first: dict[str, int] = {}
    for request, (context, _) in zip(requests, pairs, strict=True):
        first[context] = min(first.get(context, request.first), request.first)
    return [
        TokenRequest(request.tokens, first[context])
        for request, (context, _) in zip(requests, pairs, strict=True)
    ]


def _same(item: Item, requests: list[TokenRequest]) -> tuple[str, tuple[str, str]] | None:
    """The item's id and two of its choices that are the same tokens; None where all differ."""
    known: dict[TokenRequest, tuple[tuple[str, str], str]] = {}
    for request, pair, choice in zip(requests, item.pairs, item.example.choices, strict=False):
        before, other = known.setdefault(request, (pair, choice))
        if before != pair:
            return item.example.id, (other, choice)
    return None
