"""Answers items with a classification head: the log-probability of each label."""

from collections.abc import Iterator, Sequence

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, fit


class Classification:
    """Classifies the prompt of each item with a classification head."""

    def __init__(
        self, classifier: TransformersClassifier, config: BenchmarkConfig, evaluate: EvaluateConfig
    ) -> None:
        """Create an answerer for a benchmark; `evaluate` says what becomes of items that are too long."""
        self.classifier = classifier
        self.config = config
        self.too_long = evaluate.too_long

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into items whose prompts fit the model; few-shot examples are dropped if need be.

        Raises:
            ConfigError: The benchmark's labels are not the labels of the head.
            DataError: A prompt can't fit, and `too_long` is `refuse`.
        """
        labels = self.classifier.labels
        if examples and (choices := list(examples[0].choices)):
            head_labels = [str(name) for name in labels]
            if len(choices) != len(labels) or (set(head_labels) == set(choices) and head_labels != choices):
                raise ConfigError(f"choices: {choices} are not the head's labels (in order: {head_labels})")
        for example in examples:
            if isinstance(example.target, int) and example.target >= max(2, len(labels)):
                raise ConfigError(
                    f"target_index: item {example.id} has label {example.target}, but the head has only "
                    f"{len(labels)} labels ({', '.join(labels)}; list them in this order in `choices`)"
                )
        return fit(examples, self._lengths, self.classifier.max_length, too_long=self.too_long)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(tokens) for tokens in self.classifier.encode([item.contexts[0] for item in items])]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item, as soon as the answer is known.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        for index, values in self.classifier.stream([item.contexts[0] for item in items]):
            if any(value != value for value in values):
                raise not_numbers(f"item {items[index].example.id}")
            yield index, Answer(loglikelihoods=tuple(values))
