"""Answers items by chats at an endpoint, whose messages are sent as they are."""

import json
from collections.abc import Iterator, Mapping, Sequence

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation.endpoint.chat_endpoint import ChatEndpoint
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, SentMessages, item


class ChatGeneration:
    """Has a text written for each item; the answer is extracted from it when the item is scored."""

    def __init__(self, endpoint: ChatEndpoint, config: BenchmarkConfig, evaluate: EvaluateConfig) -> None:
        """Create an answerer for a benchmark, with the settings of its protocol filled in."""
        self.endpoint, self.config, self.evaluate = endpoint, config, evaluate

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Turn each example into an item, whose context is its chat's messages as JSON; nothing is cut."""
        chat = SentMessages(self.evaluate.fewshot_as_turns)
        return [item(example, 0, chat) for example in examples]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item, as soon as the answer is known; nothing is extracted yet."""
        chats = [json.loads(item.contexts[0]) for item in items]
        seeds = [item.seed(self.evaluate.fewshot_seed) for item in items]
        for index, (text, reason, _) in self.endpoint.texts(chats, seeds, self.config.generation):
            yield index, Answer(generation=text, finish_reason=reason)


def check_written(benchmarks: Mapping[str, BenchmarkConfig]) -> None:
    """Check that all benchmarks are answered by written texts, which is all that a chat gives.

    Raises:
        ConfigError: One needs log-probabilities or a classification head, or closes thoughts; the message has
            its name.
    """
    for name, benchmark in benchmarks.items():
        if benchmark.generation.thinking_budget is not None:
            raise ConfigError(
                f"evaluate.thinking_budget: {benchmark.generation.thinking_budget} (for benchmarks.{name}) "
                "needs prompts that end with a thought, which endpoint.api=chat doesn't take "
                "(endpoint.api=completions, or leave it out)"
            )
        if benchmark.output_type is not OutputType.generation:
            written = [
                protocol
                for protocol, settings in benchmark.protocols.items()
                if settings.output_type is OutputType.generation
            ]
            way_out = " or ".join(f"benchmarks.{name}.protocol={protocol}" for protocol in written)
            raise ConfigError(
                f"benchmarks.{name}: {benchmark.output_type.name} needs log-probabilities, which "
                f"endpoint.api=chat doesn't give ({way_out or 'a benchmark of generated answers'}, or "
                "endpoint.api=completions)"
            )
