"""The rows that a training held out, as benchmarks of their own: what the training did to them."""

import logging
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from workbench.config import BenchmarkConfig
from workbench.config.benchmark import GenerationConfig, OutputType
from workbench.data.classification import label_number, labelled_text
from workbench.data.rows import Row
from workbench.errors import ConfigError, DataError
from workbench.evaluation.harness.tasks import language
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.evaluation.tasks.tokenized_rows import EncodedExample
from workbench.pipeline.held_out.encoded_rows import (
    HeldOutRow,
    context_length,
    encoded_rows,
    turn_ends,
    unique,
)
from workbench.pipeline.held_out.rows_file import read_rows, train_report
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.tokenizers import training_tokenizer

log = logging.getLogger("workbench")

HELD_OUT, ANSWERS = "held_out", "held_out_answers"
"""Names of the benchmarks: the loss of the answers (or a classifier's labels), and generated answers."""

SHORT_TOKENS, SHORT_SHARE = 32, 0.9
"""Answers are compared word by word where so many of them have at most so many tokens."""


def held_out_benchmarks(run: Run) -> dict[str, PreparedBenchmark]:
    """The benchmarks that the run's held-out rows make; none where benchmarks are named or no row is there.

    Raises:
        DataError: the rows can't be read, or none of them fits into the model's context.
    """
    rows = [] if run.config.benchmarks else read_rows(run.run_dir)
    if not rows or run.config.data.regression:
        return {}
    tokenizer = training_tokenizer(run)
    if is_classifier(run.config):
        return {HELD_OUT: labelled(rows, run, train_report(run.run_dir).get("labels") or [], tokenizer)}
    found, lost = encoded_rows(rows, run, tokenizer)
    for reason, count in lost.items():
        log.warning("held_out: %d of %d rows are left out: %s", count, len(rows), reason)
    if not found:
        raise DataError(f"held_out: no row is left ({'; '.join(lost)})")
    benchmarks = {HELD_OUT: losses(found)}
    short = [row for row in found if row.answer and row.num_answer_tokens <= SHORT_TOKENS]
    if len(short) >= SHORT_SHARE * len(found):
        benchmarks[ANSWERS] = answers(short, tokenizer)
    return benchmarks


def losses(rows: Sequence[HeldOutRow]) -> PreparedBenchmark:
    """The loss of the rows' answers, in nats a token."""
    examples: list[Example] = [
        EncodedExample(
            id=row.id, questions=(row.prompt,), target=row.ending, input_ids=row.input_ids, spans=row.spans
        )
        for row in rows
    ]
    return prepared(HELD_OUT, examples, OutputType.answer_loss, ["answer_loss"])


def answers(rows: Sequence[HeldOutRow], tokenizer: PreTrainedTokenizerBase) -> PreparedBenchmark:
    """Generated answers that are to be the row's own; each may be twice as long as the longest of these."""
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
    return prepared(ANSWERS, examples, OutputType.generation, ["exact_match", "char_f1"], limits)


def labelled(
    rows: Sequence[Row], run: Run, labels: list[str], tokenizer: PreTrainedTokenizerBase
) -> PreparedBenchmark:
    """Texts whose class is to be told, as training reads them but never cut.

    Raises:
        ConfigError: train.json names no classes.
        DataError: no text fits into the model's context.
    """
    if not labels:
        raise ConfigError("train.json: no labels (force=true 'steps=[train]' trains again and writes it)")
    room, ids = context_length(run, tokenizer), unique()
    texts = [labelled_text(row) for row in rows]
    lengths = [len(tokens) for tokens in tokenizer([each.text for each in texts])["input_ids"]]
    examples = [
        Example(
            id=ids(each.where),
            questions=(each.text,),
            choices=tuple(labels),
            target=label_number(each.label, labels, each.where),
        )
        for each, length in zip(texts, lengths, strict=True)
        if length <= room
    ]
    if lost := len(texts) - len(examples):
        log.warning("held_out: %d of %d texts are left out, longer than %d tokens", lost, len(texts), room)
    if not examples:
        raise DataError(f"held_out: no text is left, all are longer than {room:,} tokens")
    return prepared(HELD_OUT, examples, OutputType.classification, ["acc", "macro_f1", "log_loss"])


def prepared(
    name: str,
    examples: list[Example],
    output_type: OutputType,
    metrics: list[str],
    limits: GenerationConfig | None = None,
) -> PreparedBenchmark:
    """A benchmark of held-out rows."""
    spoken = language(example.questions[0] for example in examples)
    config = BenchmarkConfig(
        language=spoken,
        output_type=output_type,
        metrics=metrics,
        num_fewshot=0,
        generation=limits or GenerationConfig(),
    )
    return PreparedBenchmark(name, config, examples, [], ItemInterviewer())
