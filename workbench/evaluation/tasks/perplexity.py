"""How well a model predicts a text: log-likelihood over windows that cover it once."""

import math
from collections.abc import Iterator, Sequence

from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.encoding import encode
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, item


class Perplexity:
    """Scores whole texts, every token once, with at most the model's context before it."""

    def __init__(self, lm: TransformersLM, as_harness: bool = False) -> None:
        """Take the model.

        Args:
            lm: the model and its tokenizer.
            as_harness: score everything that the tokenizer makes of a text, as lm-evaluation-harness does: a
                tokenizer that adds a beginning token has it scored after the token that stands before a text.
        """
        self.lm = lm
        self.as_harness = as_harness

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as they are: texts are cut into windows, never shortened."""
        return [item(example, 0) for example in examples]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each text: its log-likelihood, tokens and bytes.

        Raises:
            CheckpointError: the model's logits are not numbers.
        """
        for index, one in enumerate(items):
            found = self.lm.loglikelihoods(self.windows(self.tokens(one.contexts[0])))
            total = math.fsum(f.loglikelihood for f in found)
            if total != total:
                raise not_numbers(f"item {one.example.id}")
            yield index, Answer(loglikelihoods=(total,), num_tokens=(sum(f.num_tokens for f in found),))

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that are scored."""
        if self.as_harness:
            beginning = str(self.lm.tokenizer.decode([self.lm.start_token]))
            return encode(self.lm.tokenizer, [text], beginning, closed=True)[0]
        return list(self.lm.tokenizer(text, add_special_tokens=False)["input_ids"])

    def windows(self, tokens: Sequence[int]) -> list[TokenRequest]:
        """Requests that score every token once, each window after one token of context.

        The last window is as long as the others: its first part is read and not scored.
        Source: lm-evaluation-harness 0.4.13, `utils.get_rolling_token_windows` with context_len=1.
        """
        size = self.lm.max_length
        sequence = (self.lm.start_token, *tokens)
        requests = []
        for start in range(0, len(tokens), size):
            end = min(start + size, len(tokens))
            begin = max(0, end - size)
            # sequence[k] is read to predict tokens[k], which is sequence[k + 1].
            requests.append(TokenRequest(sequence[begin : end + 1], start - begin + 1))
        return requests
