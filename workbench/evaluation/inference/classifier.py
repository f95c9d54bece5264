"""Computes label probabilities with any Hugging Face sequence classification model."""

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.evaluate import EvaluateConfig
from workbench.errors import DeviceError
from workbench.evaluation.inference.encoding import context_length, encode, pad
from workbench.evaluation.memory_fallback import repeated_on_less

log = logging.getLogger("workbench")


class TransformersClassifier:
    """Model with a classification head, and its tokenizer."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, evaluate: EvaluateConfig
    ) -> None:
        """Wrap a model in evaluation mode."""
        self.model = model
        self.tokenizer = tokenizer
        embedding = model.get_input_embeddings().weight
        assert isinstance(embedding, Tensor)
        self.device = embedding.device
        self.max_length = evaluate.max_length or context_length(model, tokenizer)
        self.budget = 1 if evaluate.invariant else evaluate.batch_tokens or 4096
        self.computed_tokens = 0

    @property
    def labels(self) -> list[str]:
        """Names of the head's labels, in the order of their ids."""
        return [str(name) for _, name in sorted((self.model.config.id2label or {}).items())]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, with the tokenizer's special tokens as in training."""
        return encode(self.tokenizer, texts, closed=True)

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[int, list[float]]]:
        """Yield a text's index and the log-probability of each label, in nats, as soon as they are known.

        A head with one output (regression) gives the output itself. Texts must fit the model: they are not
        truncated.
        """
        yield from repeated_on_less(self.encode(texts), self._batches, self._halve)

    def _batches(self, encoded: Sequence[Sequence[int]]) -> Iterator[tuple[int, list[float]]]:
        """Yield index and log-probabilities of each text, the shortest first, in batches of the budget."""
        order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), encoded[i]))
        while order:
            count = 1
            while count < len(order) and len(encoded[order[count]]) * (count + 1) <= self.budget:
                count += 1
            rows, order = order[:count], order[count:]
            yield from zip(rows, self._logprobs([encoded[i] for i in rows]), strict=True)

    def _halve(self, encoded: Sequence[Sequence[int]], reason: str) -> None:
        """Halve the token budget, after memory ran out.

        Raises:
            DeviceError: A batch is a single text already.
        """
        longest = max(map(len, encoded))
        if self.budget <= longest:
            raise DeviceError(f"out of memory on a single text, of {longest} tokens ({reason})")
        self.budget = max(longest, min(self.budget, longest * len(encoded)) // 2)
        log.warning("out of memory; %d tokens are now computed at once", self.budget)

    @torch.no_grad()
    def _logprobs(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        token = self.model.config.get_text_config().pad_token_id or 0
        ids, mask = pad(batch, "right", self.device, token)
        self.computed_tokens += ids.numel()
        logits = self.model(input_ids=ids, attention_mask=mask).logits.float()  # (B, labels)
        values: list[list[float]] = (logits if logits.shape[-1] == 1 else logits.log_softmax(-1)).tolist()
        return values
