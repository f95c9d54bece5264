"""Takes probe texts, on which models' next-token distributions are compared, from benchmark items."""

import math
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
    """Return the token ids of each probe text: questions with their answers, in turn from each benchmark.

    Args:
        benchmarks: Benchmarks with their items.
        tokenizer: The model's tokenizer.
        num_texts: Largest number of texts; duplicates among these are dropped.
        max_tokens: Number of tokens to which texts are cut.
    """
    texts = list(dict.fromkeys(islice(_texts(benchmarks, num_texts), num_texts)))
    return [row[:max_tokens] for row in encode(tokenizer, texts) if row]


def _texts(benchmarks: Mapping[str, PreparedBenchmark], num_texts: int) -> Iterator[str]:
    """Yield items' texts: that of the first item of each benchmark, then of the second of each, and so on.

    They are `num_texts` or a few more, unless the benchmarks have fewer items.
    """
    shares, left = {}, num_texts
    by_size = sorted(benchmarks, key=lambda name: len(benchmarks[name].examples))
    for index, name in enumerate(by_size):
        shares[name] = min(len(benchmarks[name].examples), math.ceil(left / (len(by_size) - index)))
        left -= shares[name]
    spread = [_spread(benchmark.examples, shares[name]) for name, benchmark in benchmarks.items()]
    for examples in zip_longest(*spread):
        yield from (_text(example) for example in examples if example is not None)


def _spread(examples: list[Example], most: int) -> list[Example]:
    """Return `most` of a benchmark's items, at equal distances; all if it has no more."""
    count = min(most, len(examples))
    return [examples[number * len(examples) // count] for number in range(count)]


def _text(example: Example) -> str:
    """Return an item's question and its right answer, without few-shot examples."""
    target = example.target[0] if isinstance(example.target, tuple) and example.target else example.target
    if isinstance(target, int) and example.continuations:
        question = example.questions[target if len(example.questions) > 1 else 0]
        answer = example.continuations[target if len(example.continuations) > 1 else 0]
    else:
        question, answer = example.questions[0], str(target)
    return f"{question}{example.delimiter}{answer}"
