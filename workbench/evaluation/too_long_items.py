"""Finds the items of benchmarks that are longer than a model's context, before the model is loaded."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig, TooLong
from workbench.distributed import is_rank0
from workbench.errors import DataError
from workbench.evaluation.inference.encoding import encode
from workbench.evaluation.inference.prompt_encoder import PromptEncoder
from workbench.evaluation.model_checks import naming_benchmark
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.evaluation.tasks.generation import Generation
from workbench.evaluation.tasks.multiple_choice import MultipleChoice
from workbench.evaluation.tasks.requests import Item, fit, possibly_too_long
from workbench.evaluation.tasks.thinking import most_new_tokens

log = logging.getLogger("workbench")

_DONE = {
    TooLong["truncate-left"]: "their first characters are left out",
    TooLong["truncate-middle"]: "characters in their middle are left out",
    TooLong.skip: "they are skipped",
}


def check_lengths(
    context_length: int,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
    needed: Collection[str] = (),
) -> None:
    """Count the items that are too long without few-shot examples; log what becomes of them, or refuse.

    Only questions with more bytes than the model has tokens are encoded: all others fit. A benchmark of
    which no item can be scored is logged, too.

    Args:
        context_length: number of tokens that the model can read.
        tokenizer: tokenizer of the model.
        benchmarks: name -> prepared benchmark.
        config: the evaluate section, with `max_length` and `too_long`.
        needed: benchmarks that must have a score, such as those that choose a checkpoint.

    Raises:
        DataError: Some items are too long and `too_long` is `refuse`; or none can be scored, of all
            benchmarks together or of one that is needed.
    """
    encoder = PromptEncoder(tokenizer, config.max_length or context_length)
    without_items = []
    for name, benchmark in benchmarks.items():
        with naming_benchmark(name):
            too_long = too_long_items(benchmark, encoder, config)
            if not too_long:
                continue
            count = f"{len(too_long):,} of {len(benchmark.examples):,} items"
            if config.too_long is TooLong.refuse:
                raise DataError(
                    f"{count} are longer without few-shot examples than the {encoder.max_length:,} tokens of "
                    f"the context, as item {too_long[0]} (a model with a longer context, or "
                    "evaluate.too_long=truncate-left, truncate-middle or skip)"
                )
            num_items = len(benchmark.examples)
            if len(too_long) == num_items == len(skipped_items(benchmark, encoder, config)):
                check_some_left(int(name not in needed), config)
                without_items.append(name)
                continue
        if is_rank0():
            log.warning(
                "benchmarks.%s: %s are longer than the %s tokens of the context: %s (evaluate.too_long=%s)",
                *(name, count, f"{encoder.max_length:,}", _DONE[config.too_long], config.too_long.name),
            )
    if without_items and len(without_items) == len(benchmarks):
        with naming_benchmark(without_items[0]):
            check_some_left(0, config)
    for name in without_items:
        warn_of_none_left(name, len(benchmarks[name].examples), encoder.max_length)


def warn_of_none_left(name: str, num_items: int, max_length: int) -> None:
    """Log that a benchmark gets no score, because each of its items is longer than `max_length` tokens."""
    if is_rank0():
        log.warning(
            "benchmarks.%s: no item fits the %s tokens of the context, so it gets no score (%s left out)",
            *(name, f"{max_length:,}", f"{num_items:,}"),
        )


def check_each_left(names: Iterable[str], left: Collection[str], config: EvaluateConfig) -> None:
    """Check that of each benchmark in `names` some items remain: that its name is in `left`.

    Raises:
        DataError: Of one no item remains.
    """
    for name in names:
        if name not in left:
            with naming_benchmark(name):
                check_some_left(0, config)


def check_some_left(num_left: int, config: EvaluateConfig) -> None:
    """Check that some items remain where those that are too long are skipped.

    Raises:
        DataError: `num_left`, the number of items that remain, is 0.
    """
    if num_left == 0:
        cuts = "evaluate.too_long=truncate-left or truncate-middle, or "
        raise DataError(
            "all items are longer than the model's context, so none would be scored "
            f"({cuts if config.too_long is TooLong.skip else ''}a model with a longer context)"
        )


def too_long_items(benchmark: PreparedBenchmark, encoder: PromptEncoder, config: EvaluateConfig) -> list[str]:
    """Return the ids of the items that are too long even without few-shot examples, in order.

    Empty for output types whose items can't be too long, such as perplexity.
    """
    return _skipped(benchmark, encoder, replace(config, too_long=TooLong.skip))


def skipped_items(benchmark: PreparedBenchmark, encoder: PromptEncoder, config: EvaluateConfig) -> list[str]:
    """Return the ids of the items that `too_long` leaves out of a score, in order; none with `refuse`."""
    return [] if config.too_long is TooLong.refuse else _skipped(benchmark, encoder, config)


def _skipped(benchmark: PreparedBenchmark, encoder: PromptEncoder, config: EvaluateConfig) -> list[str]:
    """Return the ids of the items that are skipped in some order of their options."""
    items_of = _items_of(benchmark.config, encoder, config)
    if items_of is None:
        return []
    longest = encoder.max_length - most_new_tokens(encoder.tokenizer, benchmark.config.generation)
    orders = (order for example in benchmark.examples for order in (example, *example.rotations))
    without_shots = [replace(order, shots=()) for order in orders]
    long_items = items_of(possibly_too_long(without_shots, longest))
    return list(dict.fromkeys(item.example.id for item in long_items if item.is_skipped))


def _items_of(
    benchmark: BenchmarkConfig, encoder: PromptEncoder, config: EvaluateConfig
) -> Callable[[Sequence[Example]], list[Item]] | None:
    """Return the function that makes items of examples; None: items of this type can't be too long."""
    if benchmark.output_type is OutputType.multiple_choice:
        return MultipleChoice(encoder, benchmark, config).items
    if benchmark.output_type is OutputType.generation:
        return Generation(encoder, benchmark, config).items
    if benchmark.output_type is OutputType.classification:

        def lengths(items: Sequence[Item]) -> list[int]:
            texts = [item.contexts[0] for item in items]
            return [len(tokens) for tokens in encode(encoder.tokenizer, texts, closed=True)]

        return lambda examples: fit(examples, lengths, encoder.max_length, too_long=config.too_long)
    return None
