"""Measures a text's log-likelihood over windows; `metrics/likelihood_scores.py` turns it into perplexity."""

import math
from collections.abc import Iterator, Sequence

from workbench.evaluation.inference.encoding import encode
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, item


class Perplexity:
    """Scores every token of a text once, given at most the model's context before it."""

    def __init__(self, lm: LanguageModel, as_harness: bool = False) -> None:
        """Create a scorer of texts.

        Args:
            lm: model and tokenizer.
            as_harness: score all tokens of the encoded text, special tokens included, as
                lm-evaluation-harness does: a BOS token is then scored after the start token.
        """
        self.lm = lm
        self.as_harness = as_harness

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Return the examples as items; texts are split into windows, never truncated.

        Raises:
            DataError: The chat template refuses a text.
        """
        return [item(example, 0) for example in examples]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each text: its log-likelihood and number of tokens.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        for index, text in enumerate(items):
            likelihoods = self.lm.loglikelihoods(self.windows(self.tokens(text.contexts[0])))
            total = math.fsum(likelihood.loglikelihood for likelihood in likelihoods)
            if total != total:
                raise not_numbers(f"item {text.example.id}")
            num_tokens = sum(likelihood.num_tokens for likelihood in likelihoods)
            yield index, Answer(loglikelihoods=(total,), num_tokens=(num_tokens,))

    def tokens(self, text: str) -> list[int]:
        """Encode a text as the tokens that are scored."""
        if self.as_harness:
            start_text = str(self.lm.tokenizer.decode([self.lm.start_token]))
            return encode(self.lm.tokenizer, [text], start_text, closed=True)[0]
        return list(self.lm.tokenizer(text, add_special_tokens=False)["input_ids"])

    def windows(self, tokens: Sequence[int]) -> list[TokenRequest]:
        """Return requests (windows of the model's context length) that score each token of a text once.

        The first token of each window is context only. The last window is as long as the others: its tokens
        that the window before has scored are context, too.
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
