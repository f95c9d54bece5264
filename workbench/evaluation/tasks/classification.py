"""Answers of a classification head: the log-probability of each label."""

from collections.abc import Iterator, Sequence

from workbench.config.benchmark import BenchmarkConfig
from workbench.errors import ConfigError
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, fit


class Classification:
    """Asks a model with a classification head; the text is the item's prompt, the answer is a label."""

    def __init__(self, classifier: TransformersClassifier, config: BenchmarkConfig) -> None:
        """Take the classifier and a benchmark."""
        self.classifier = classifier
        self.config = config

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as this model is asked them.

        Raises:
            ConfigError: the benchmark has other or more labels than the head.
        """
        labels = self.classifier.labels
        if examples and (choices := list(examples[0].choices)):
            order = [str(name) for name in labels]
            if len(choices) != len(labels) or (set(order) == set(choices) and order != choices):
                raise ConfigError(f"choices: {choices} are not the head's labels {order}, in their order")
        for example in examples:
            if isinstance(example.target, int) and example.target >= max(2, len(labels)):
                raise ConfigError(
                    f"target_index: item {example.id} has label {example.target}, the head has "
                    f"{len(labels)} ({', '.join(labels)}; `choices` names them in the head's order)"
                )
        return fit(examples, self._lengths, self.classifier.max_length)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(tokens) for tokens in self.classifier.encode([item.contexts[0] for item in items])]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known.

        Raises:
            CheckpointError: the model's logits are not numbers.
        """
        for index, values in self.classifier.stream([item.contexts[0] for item in items]):
            if any(value != value for value in values):
                raise not_numbers(f"item {items[index].example.id}")
            yield index, Answer(loglikelihoods=tuple(values))
