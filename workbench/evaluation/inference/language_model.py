"""Defines what benchmarks ask of a causal language model, whose weights are here or behind an endpoint."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.inference.prompt_encoder import PromptEncoder


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of the scored tokens of a request."""

    loglikelihood: float
    """Summed log-probability of the scored tokens, in nats."""
    num_tokens: int
    greedy: bool
    """Whether every scored token is the argmax."""


class LanguageModel(PromptEncoder, ABC):
    """Causal language model with its tokenizer, which returns log-likelihoods of texts."""

    model: PreTrainedModel
    vocabulary: int
    """Number of token ids."""
    invariant = False
    """Whether each item is scored by `alone`."""
    computed_tokens = 0
    """Number of tokens that the model has computed on this machine."""

    @abstractmethod
    def stream(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yield index and likelihood of each request, as soon as the likelihood is known, in any order."""

    def loglikelihoods(self, requests: Sequence[TokenRequest]) -> list[Likelihood]:
        """Return the likelihood of each request, in order."""
        likelihoods = dict(self.stream(requests))
        return [likelihoods[index] for index in range(len(requests))]

    def alone(self, requests: Sequence[TokenRequest], num_shared: int) -> list[Likelihood]:
        """Return the likelihoods of one item's requests, in order.

        A model with `invariant` gives the same bits whichever other items are scored.

        Args:
            requests: requests of one item.
            num_shared: number of prefix tokens that other items may share; their cache is kept for the
                next item.
        """
        return self.loglikelihoods(requests)
