"""Takes probe texts, on which models' next-token distributions are compared, from benchmark items."""

from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest

from transformers import PreTrainedTokenizerBase

from workbench.evaluation.inference.encoding import encode
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example


def probe_rows(
    benchmarks: Mapping[str, PreparedBenchmark],
    tokenizer: PreTrainedTokenizerBase,
    num_texts: int,
    max_tokens: int,
) -> list[list[int]]:
    """Return the token ids of probe texts: questions with their answers, in turn from each benchmark.

    Args:
        benchmarks: Benchmarks with their items.
        tokenizer: The model's tokenizer.
        num_texts: Largest number of texts; duplicates among these are dropped.
        max_tokens: Number of tokens to which texts are cut.
    """
    texts = list(dict.fromkeys(islice(_texts(benchmarks, num_texts), num_texts)))
    return [row[:max_tokens] for row in encode(tokenizer, texts) if row]


def _texts(benchmarks: Mapping[str, PreparedBenchmark], num_texts: int) -> Iterator[str]:
    """Yield texts from the benchmarks in turn: the first of each, then the second of each, and so on."""
    spread = [_spread(benchmark.examples, num_texts) for benchmark in benchmarks.values()]
    for examples in zip_longest(*spread):
        yield from (_text(example) for example in examples if example is not None)


def _spread(examples: list[Example], num_texts: int) -> list[Example]:
    """Return every n-th item: at least `num_texts` items and fewer than twice as many, or all items."""
    return examples[:: max(1, len(examples) // num_texts)]


def _text(example: Example) -> str:
    """Return an item's question and its right answer, without few-shot examples."""
    target = example.target[0] if isinstance(example.target, tuple) and example.target else example.target
    if isinstance(target, int) and example.continuations:
        question = example.questions[target if len(example.questions) > 1 else 0]
        answer = example.continuations[target if len(example.continuations) > 1 else 0]
    else:
        question, answer = example.questions[0], str(target)
    return f"{question}{example.delimiter}{answer}"
