"""Makes benchmarks from the rows that a training held out, which compare the models before and after it."""

import logging
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from workbench.config import BenchmarkConfig
from workbench.config.benchmark import GenerationConfig, OutputType
from workbench.config.names import HELD_OUT
from workbench.data.classification import label_number, labelled_text
from workbench.data.rows import Row
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.language import language
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.evaluation.tasks.tokenized_rows import EncodedExample
from workbench.pipeline.held_out.encoded_rows import (
    HeldOutRow,
    context_length,
    encoded_rows,
    turn_ends,
    unique_names,
)
from workbench.pipeline.held_out.rows_file import read_rows, train_report
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.tokenizers import training_tokenizer

log = logging.getLogger("workbench")

ANSWERS = "held_out_answers"
"""Name of the benchmark of generated answers; HELD_OUT has their loss, or a classifier's labels."""

SHORT_TOKENS, SHORT_SHARE = 32, 0.9
"""The models generate answers if at least this share of the rows' answers has at most so many tokens."""


def held_out_benchmarks(run: Run) -> dict[str, PreparedBenchmark]:
    """Return the benchmarks of the run's held-out rows by name; {} without rows, or with other benchmarks.

    For a classifier, HELD_OUT scores its labels; a regression has no benchmark. For a causal model, HELD_OUT
    scores the loss and, if most answers are short, ANSWERS scores generated answers. Rows that don't fit into
    the context are left out, which is logged.

    Raises:
        DataError: The rows can't be read, or none of them fits into the model's context.
        ConfigError: train.json of a classifier has no labels.
    """
    rows = [] if run.config.benchmarks else read_rows(run.run_dir)
    if not rows or run.config.data.regression:
        return {}
    tokenizer = training_tokenizer(run)
    if is_classifier(run.config):
        return {HELD_OUT: labelled(rows, run, train_report(run.run_dir).get("labels") or [], tokenizer)}
    encoded, left_out = encoded_rows(rows, run, tokenizer)
    for reason, count in left_out.items():
        log.warning("held_out: %d of %d rows are left out: %s", count, len(rows), reason)
    if not encoded:
        raise DataError(f"held_out: no row is left ({'; '.join(left_out)})")
    benchmarks = {HELD_OUT: losses(encoded)}
    short = [row for row in encoded if row.answer and row.num_answer_tokens <= SHORT_TOKENS]
    if len(short) >= SHORT_SHARE * len(encoded):
        benchmarks[ANSWERS] = answers(short, tokenizer)
    return benchmarks


def losses(rows: Sequence[HeldOutRow]) -> PreparedBenchmark:
    """Make the benchmark of the loss on the held-out rows' answers, in nats per token."""
    examples: list[Example] = [
        EncodedExample(
            id=row.id, questions=(row.prompt,), target=row.ending, input_ids=row.input_ids, spans=row.spans
        )
        for row in rows
    ]
    spoken = language(row.text for row in rows)
    return prepared(HELD_OUT, examples, spoken, OutputType.answer_loss, ["answer_loss"])


def answers(rows: Sequence[HeldOutRow], tokenizer: PreTrainedTokenizerBase) -> PreparedBenchmark:
    """Make the benchmark that compares generated answers with those of the held-out rows (at least one).

    At most twice as many tokens are generated as the longest of the rows' answers has.
    """
    examples: list[Example] = [
        EncodedExample(
            id=row.id,
            questions=(row.prompt,),
            target=row.answer.strip(),
            input_ids=row.input_ids[: row.spans[-1][0]],
        )
        for row in rows
    ]
    longest = max(row.num_answer_tokens for row in rows)
    limits = GenerationConfig(max_new_tokens=2 * longest, stop=turn_ends(rows, tokenizer))
    spoken = language(row.text for row in rows)
    return prepared(ANSWERS, examples, spoken, OutputType.generation, ["exact_match", "char_f1"], limits)


def labelled(
    rows: Sequence[Row], run: Run, labels: list[str], tokenizer: PreTrainedTokenizerBase
) -> PreparedBenchmark:
    """Make the benchmark of a classifier's labels; texts longer than the model's context are left out.

    Args:
        rows: The held-out rows.
        run: The run.
        labels: Class names in the order of their indices, from train.json.
        tokenizer: The model's tokenizer.

    Raises:
        ConfigError: `labels` is empty.
        DataError: No text fits into the model's context, or a row can't be read.
    """
    if not labels:
        raise ConfigError("train.json: no labels (force=true 'steps=[train]' trains again and writes it)")
    context, short_name = context_length(run, tokenizer), unique_names()
    texts = [labelled_text(row) for row in rows]
    lengths = [len(token_ids) for token_ids in tokenizer([text.text for text in texts])["input_ids"]]
    examples = [
        Example(
            id=short_name(text.where),
            questions=(text.text,),
            choices=tuple(labels),
            target=label_number(text.label, labels, text.where),
        )
        for text, length in zip(texts, lengths, strict=True)
        if length <= context
    ]
    if num_longer := len(texts) - len(examples):
        log.warning(
            "held_out: %d of %d texts are left out: longer than the model's context of %d tokens",
            num_longer,
            len(texts),
            context,
        )
    if not examples:
        raise DataError(
            f"held_out: no text is left, all are longer than the model's context of {context:,} tokens"
        )
    spoken = language(example.questions[0] for example in examples)
    return prepared(HELD_OUT, examples, spoken, OutputType.classification, ["acc", "macro_f1", "log_loss"])


def prepared(
    name: str,
    examples: list[Example],
    spoken: str,
    output_type: OutputType,
    metrics: list[str],
    limits: GenerationConfig | None = None,
) -> PreparedBenchmark:
    """Return a benchmark of the items, without few-shot examples.

    Args:
        name: Name of the benchmark.
        examples: Its items.
        spoken: Language of the items, zh or en.
        output_type: What the model is asked for.
        metrics: Names of the metrics, the main one first.
        limits: Limits of generated answers; None: the defaults.
    """
    config = BenchmarkConfig(
        language=spoken,
        output_type=output_type,
        metrics=metrics,
        num_fewshot=0,
        generation=limits or GenerationConfig(),
    )
    return PreparedBenchmark(name, config, examples, [], ItemInterviewer())
