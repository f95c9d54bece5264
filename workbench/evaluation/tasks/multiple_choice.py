"""Answers multiple choice questions with the log-likelihood of each choice."""

from collections.abc import Iterator, Sequence
from itertools import cycle

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, Scoring
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation.inference.encoding import num_common, refuse_empty
from workbench.evaluation.inference.language_model import LanguageModel, Likelihood
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.inference.prompt_encoder import PromptEncoder
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, chat_format, fit


class MultipleChoice:
    """Scores the choices of each item with a causal model, by the scoring of the benchmark's protocol."""

    def __init__(self, lm: PromptEncoder, config: BenchmarkConfig, evaluate: EvaluateConfig) -> None:
        """Create an answerer for a benchmark, with the settings of its protocol filled in.

        Args:
            lm: model and tokenizer; a tokenizer alone makes items and answers none.
            config: configuration of the benchmark.
            evaluate: chat template, and what becomes of items that are too long.
        """
        self.lm = lm
        self.config = config
        self.too_long = evaluate.too_long
        self.chat = chat_format(lm.tokenizer, config, evaluate)
        self._requests: dict[str, list[TokenRequest]] = {}
        self._choice_tokens: dict[str, int] = {}
        self.same_tokens: dict[str, tuple[str, str]] = {}
        """Item id -> two different choices with the same tokens, and so with the same score."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into items whose prompts fit the model; few-shot examples are dropped if need be.

        Raises:
            DataError: A prompt can't fit and `too_long` is `refuse`, or a choice has no token to score.
        """
        # The last token of a sequence is predicted but never an input, so one more token fits.
        return fit(examples, self._lengths, self.lm.max_length + 1, self.chat, self.too_long)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        requests = self.requests(items)
        self._requests.update(
            {item.hash: item_requests for item, item_requests in zip(items, requests, strict=True)}
        )
        self.same_tokens.update(
            duplicate
            for pair in zip(items, requests, strict=True)
            if (duplicate := _choices_with_same_tokens(*pair))
        )
        return [max(len(request.tokens) for request in item_requests) for item_requests in requests]

    def requests(self, items: Sequence[Item]) -> list[list[TokenRequest]]:
        """Return the requests of each item: one per choice, after the item's prompt.

        For acc_pmi one more per choice follows, after the unconditional prompt.

        Raises:
            ConfigError: With scoring next-piece, the vocabulary doesn't have a choice.
            DataError: A choice adds no token to its prompt.
        """
        pairs = [self._pairs(item) for item in items]
        if self.config.scoring in (Scoring["next-token"], Scoring["next-piece"]):
            return self._next_tokens(items, pairs)
        whole_text = self.config.scoring != Scoring.continuation
        flat = iter(self.lm.encode_pairs([pair for item_pairs in pairs for pair in item_pairs], whole_text))
        requests = [[next(flat) for _ in item_pairs] for item_pairs in pairs]
        for item, item_requests, item_pairs in zip(items, requests, pairs, strict=True):
            for request, pair in zip(item_requests, item_pairs, strict=True):
                refuse_empty(request, pair, f"item {item.example.id}")
        if self.config.scoring == Scoring["mean-nll"]:
            return [[self._score_all(request) for request in item_requests] for item_requests in requests]
        if whole_text:
            return [_with_common_first(*pair) for pair in zip(requests, pairs, strict=True)]
        return requests

    def _score_all(self, request: TokenRequest) -> TokenRequest:
        """Return a request that scores all tokens of `request` except the first, those of the context too."""
        tokens = request.tokens if len(request.tokens) > 1 else (self.lm.start_token, *request.tokens)
        return TokenRequest(tokens, 1)

    def _pairs(self, item: Item) -> list[tuple[str, str]]:
        """Return (context, continuation) of each choice; for acc_pmi, also with the unconditional prompt."""
        pairs = item.pairs
        if item.example.unconditional is not None:
            pairs = pairs + [(item.example.unconditional, continuation) for _, continuation in pairs]
        return pairs

    def _next_tokens(
        self, items: Sequence[Item], pairs: Sequence[list[tuple[str, str]]]
    ) -> list[list[TokenRequest]]:
        """Return, for each item, requests that score one token per choice, even if its text has several."""
        contexts = list(dict.fromkeys(context for item_pairs in pairs for context, _ in item_pairs))
        context_tokens = {
            context: tuple(tokens) or (self.lm.start_token,)
            for context, tokens in zip(contexts, self.lm.encode(contexts), strict=True)
        }
        requests = []
        for item, item_pairs in zip(items, pairs, strict=True):
            tokens = cycle(map(self._choice_token, item.example.continuations))  # acc_pmi scores each twice
            requests.append(
                [
                    TokenRequest((*context_tokens[context], token), len(context_tokens[context]))
                    for (context, _), token in zip(item_pairs, tokens, strict=False)
                ]
            )
        return requests

    def _choice_token(self, text: str) -> int:
        """Return the only token that is scored for a choice, given the choice's text.

        With next-piece it is the vocabulary entry that equals the text; with next-token the last token of the
        text.
        """
        if text not in self._choice_tokens:
            if self.config.scoring == Scoring["next-piece"]:
                self._choice_tokens[text] = vocabulary_entry(text, self.lm.tokenizer, self.config)
            else:
                self._choice_tokens[text] = int(
                    self.lm.tokenizer(text, add_special_tokens=False)["input_ids"][-1]
                )
        return self._choice_tokens[text]

    def letter_warning(self, item: Item) -> str | None:
        """Return a warning if the token that the protocol scores for a choice is not the natural one.

        The natural token follows the prompt's tokens when prompt and choice are tokenized as one text.
        Only `scoring=next-token` and `scoring=next-piece` score one token; with others there is no warning.
        """
        if self.config.scoring not in (Scoring["next-token"], Scoring["next-piece"]):
            return None
        tokenized, [requests] = self.lm.encode_pairs(item.pairs, whole_text=True), self.requests([item])
        for pair, natural, request in zip(item.pairs, tokenized, requests, strict=False):
            *context, scored = request.tokens
            expected = natural.tokens[len(context) :][:1]
            if list(natural.tokens[: len(context)]) != context:
                return (
                    f"the prompt's last token changes when {pair[1]!r} follows it, "
                    f"and {self._rule} ignores that"
                )
            if expected != (scored,):
                names = self.lm.tokenizer.convert_ids_to_tokens([scored, *expected])
                return (
                    f"{self._rule} scores the answer {pair[1]!r} by token {names[0]!r}, but after the prompt "
                    f"it starts with {names[-1]!r} (scoring=continuation scores the tokens of the whole text)"
                )
        return None

    @property
    def _rule(self) -> str:
        """The protocol and the scoring as text for warnings, as in `protocol 'official' with scoring=...`."""
        return f"protocol {self.config.protocol!r} with scoring={self.config.scoring.name}"

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item, as soon as the answer is known.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        assert isinstance(self.lm, LanguageModel)
        requests = [self._requests.get(item.hash) or self.requests([item])[0] for item in items]
        self._requests.clear()
        shared = self._num_shared_tokens(items, requests) if self.lm.invariant else []
        for index, likelihoods in by_item(self.lm, requests, shared):
            yield index, self._answer(items[index], likelihoods, requests[index])

    def _num_shared_tokens(self, items: Sequence[Item], requests: Sequence[list[TokenRequest]]) -> list[int]:
        """Return how many first tokens of each item come from its description and few-shot examples.

        Other items share them. 0 in a chat, and for acc_pmi, whose unconditional prompt doesn't have them.
        """
        lengths = [item.num_shared if item.example.unconditional is None else 0 for item in items]
        prefixes = [item.contexts[0][:length] for item, length in zip(items, lengths, strict=True)]
        distinct = list(dict.fromkeys(prefixes))
        prefix_tokens = dict(zip(distinct, self.lm.encode(distinct), strict=True))
        return [
            min(num_common(prefix_tokens[prefix], request.tokens) for request in item_requests)
            for prefix, item_requests in zip(prefixes, requests, strict=True)
        ]

    def _answer(self, item: Item, likelihoods: list[Likelihood], requests: list[TokenRequest]) -> Answer:
        values = [likelihood.loglikelihood for likelihood in likelihoods]
        if any(value != value for value in values):
            raise not_numbers(f"item {item.example.id}")
        if self.config.scoring == Scoring["mean-nll"]:
            # Source: OpenCompass, `models/huggingface.py`, get_ppl: the loss over the number of all tokens.
            values = [value / len(request.tokens) for value, request in zip(values, requests, strict=True)]
        count = len(item.example.continuations)
        return Answer(
            loglikelihoods=tuple(values[:count]),
            num_tokens=tuple(likelihood.num_tokens for likelihood in likelihoods[:count]),
            greedy=tuple(likelihood.greedy for likelihood in likelihoods[:count]),
            unconditional=tuple(values[count:]),
        )


def vocabulary_entry(text: str, tokenizer: PreTrainedTokenizerBase, config: BenchmarkConfig) -> int:
    """Return the id of the vocabulary entry that is written exactly as `text`.

    Raises:
        ConfigError: The vocabulary doesn't have the text.
    """
    [token] = tokenizer.convert_tokens_to_ids([text])  # type: ignore[misc]
    if token is None or token == tokenizer.unk_token_id:
        raise ConfigError(
            f"protocol: {config.protocol!r} with scoring=next-piece needs {text!r} in the vocabulary, which "
            "has no such entry (protocol=lm-eval scores the tokens of the text)"
        )
    return int(token)


def by_item(
    lm: LanguageModel, requests: Sequence[list[TokenRequest]], shared: Sequence[int] = ()
) -> Iterator[tuple[int, list[Likelihood]]]:
    """Yield an item's index and the likelihoods of its requests, as soon as all of them are known.

    Args:
        lm: model and tokenizer.
        requests: requests of each item.
        shared: with `invariant`, number of prefix tokens of each item that other items may share.
    """
    if lm.invariant:
        for index, item_requests in enumerate(requests):
            yield index, lm.alone(item_requests, shared[index] if shared else 0)
        return
    positions = [(item, choice) for item, choices in enumerate(requests) for choice in range(len(choices))]
    likelihoods: list[dict[int, Likelihood]] = [{} for _ in requests]
    for index, likelihood in lm.stream([request for item_requests in requests for request in item_requests]):
        item, choice = positions[index]
        likelihoods[item][choice] = likelihood
        if len(likelihoods[item]) == len(requests[item]):
            yield item, [likelihoods[item][choice] for choice in range(len(requests[item]))]


def _with_common_first(requests: list[TokenRequest], pairs: list[tuple[str, str]]) -> list[TokenRequest]:
    """Return requests in which all choices with the same context are scored from the same position on.

    If one choice changes the last token of the context, so that this token is scored with that choice, it is
    scored with the other choices, too.
    """
    first: dict[str, int] = {}
    for request, (context, _) in zip(requests, pairs, strict=True):
        first[context] = min(first.get(context, request.first), request.first)
    return [
        TokenRequest(request.tokens, first[context])
        for request, (context, _) in zip(requests, pairs, strict=True)
    ]


def _choices_with_same_tokens(item: Item, requests: list[TokenRequest]) -> tuple[str, tuple[str, str]] | None:
    """Return the item's id and the first two choices that are scored by the same tokens; None: all differ."""
    seen: dict[TokenRequest, tuple[tuple[str, str], str]] = {}
    for request, pair, choice in zip(requests, item.pairs, item.example.choices, strict=False):
        first_pair, first_choice = seen.setdefault(request, (pair, choice))
        if first_pair != pair:
            return item.example.id, (first_choice, choice)
    return None
