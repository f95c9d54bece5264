"""The rows that a training held out, as benchmarks of their own: what the training did to them."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config import BenchmarkConfig, Config
from workbench.config.benchmark import GenerationConfig, OutputType
from workbench.data.classification import label_number, labelled_text
from workbench.data.conversations import conversation
from workbench.data.encode import encode
from workbench.data.formats import row_format
from workbench.data.holdout import HoldOut
from workbench.data.rows import Row
from workbench.errors import ConfigError, DataError
from workbench.evaluation.harness.tasks import language
from workbench.evaluation.records import Example, PreparedBenchmark
from workbench.evaluation.tasks.tokenized_rows import EncodedExample
from workbench.labels import IGNORED
from workbench.models.loading import read_config
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.tokenizers import training_tokenizer
from workbench.run_dir import RunDir, RunRecord, file_fingerprint, read_json, write_atomic

log = logging.getLogger("workbench")

HELD_OUT, ANSWERS = "held_out", "held_out_answers"
"""Names of the benchmarks: the loss of the answers (or a classifier's labels), and generated answers."""

MOST_ITEMS = 500
"""Held-out rows that are scored; the validation loss is that of all of them."""

SHORT_TOKENS, SHORT_SHARE = 32, 0.9
"""Answers are compared word by word where so many of them have at most so many tokens."""


def holds_out(config: Config, run_dir: RunDir) -> bool:
    """Whether rows may be held out by themselves: no benchmark is named, or this run has begun that way."""
    return config.data.validation_fraction is None and (
        not config.benchmarks or run_dir.held_out_jsonl.is_file()
    )


def write_rows(hold_out: HoldOut, run_dir: RunDir) -> dict[str, Any]:
    """Write the held-out rows into the run's folder; what train.json says of them."""
    rows = distinct(hold_out.held_out)[:MOST_ITEMS]
    lines = [
        json.dumps({"where": row.where, "source": row.source, "values": row.values}, default=str)
        for row in rows
    ]
    about = {
        "rows": len(hold_out.held_out),
        "left_out": hold_out.num_near,
        "scored": len(rows),
        "reason": hold_out.reason,
    }
    if not rows:
        run_dir.held_out_jsonl.unlink(missing_ok=True)
        return about
    write_atomic(run_dir.held_out_jsonl, "".join(f"{line}\n" for line in lines))
    return about | {"sha256": file_fingerprint(run_dir.held_out_jsonl)}


def distinct(rows: Sequence[Row]) -> list[Row]:
    """The rows without those that say the same as an earlier one."""
    found: dict[str, Row] = {}
    for row in rows:
        key = row.content()
        found.setdefault(f"{row.source} {key}", row)
    return list(found.values())


def read_rows(run_dir: RunDir) -> list[Row]:
    """The held-out rows of a finished training; none where it held none out.

    Raises:
        DataError: the file is not the one that the training left.
    """
    path, about = run_dir.held_out_jsonl, trained(run_dir).get("held_out") or {}
    if not path.is_file():
        return []
    if not isinstance(about, dict) or about.get("sha256") != file_fingerprint(path):
        raise DataError(
            f"{path}: not as the training left it (force=true 'steps=[train]' trains again and writes it)"
        )
    lines = path.read_text(encoding="utf-8").split("\n")
    values = [json.loads(line) for line in lines if line]
    return [Row(value["values"], value["where"], value["source"]) for value in values]


def trained(run_dir: RunDir) -> dict[str, Any]:
    """What train.json says; empty where nothing was trained.

    Raises:
        DataError: it isn't as the training left it.
    """
    path = run_dir.train_json
    entry = RunRecord(run_dir.run_json).values["steps"].get("train", {})
    expected = entry.get("files", {}).get(path.name)
    if expected is None and not path.is_file():
        return {}
    try:
        is_changed = expected is not None and file_fingerprint(path) != expected
        values = None if is_changed else read_json(path)
    except (ValueError, FileNotFoundError):
        values = None
    if not isinstance(values, dict):
        raise DataError(f"{path}: not as the training left it ('steps=[train]' makes it again)")
    return values


def held_out_benchmarks(config: Config, run_dir: RunDir) -> dict[str, PreparedBenchmark]:
    """The benchmarks that the run's held-out rows make; none where benchmarks are named or no row is there.

    Raises:
        DataError: the rows can't be read, or none of them fits into the model's context.
    """
    rows = [] if config.benchmarks else read_rows(run_dir)
    if not rows or config.data.regression:
        return {}
    tokenizer = training_tokenizer(config)
    if is_classifier(config):
        return {HELD_OUT: labelled(rows, config, trained(run_dir).get("labels") or [], tokenizer)}
    found, lost = encoded_rows(rows, config, tokenizer)
    for reason, count in lost.items():
        log.warning("held_out: %d of %d rows are left out: %s", count, len(rows), reason)
    if not found:
        raise DataError(f"held_out: no row is left ({'; '.join(lost)})")
    benchmarks = {HELD_OUT: losses(found)}
    short = [row for row in found if row.answer and row.num_answer_tokens <= SHORT_TOKENS]
    if len(short) >= SHORT_SHARE * len(found):
        benchmarks[ANSWERS] = answers(short, tokenizer)
    return benchmarks


@dataclass(frozen=True)
class HeldOutRow:
    """A row in the tokens that it would be trained in."""

    id: str
    input_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """First and one-past-last position of each answer."""
    prompt: str
    """What stands before the last answer, special tokens included."""
    ending: str
    """The last answer as it is trained, with its end."""
    answer: str
    """The last answer as the row has it; empty for plain text, and where it was cut."""

    @property
    def num_answer_tokens(self) -> int:
        """Of the last answer, its end included."""
        first, end = self.spans[-1]
        return end - first


def encoded_rows(
    rows: Sequence[Row], config: Config, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[HeldOutRow], dict[str, int]]:
    """The rows as training encodes them, and how many are left out, by reason.

    Left out are those without a token of an answer, and those longer than the model's context.
    """
    data = replace(config.data, packing=False, shuffle_answers=False)
    encoded = encode(rows, tokenizer, data, config.model.task)
    said = last_answers(rows, config)
    room = context_length(config, tokenizer)
    found, ids = [], unique()
    for row in encoded.dataset:
        input_ids, spans = tuple(row["input_ids"]), answer_spans(row["labels"])
        if len(input_ids) > room or not spans:
            continue
        first, end = spans[-1]
        answer = said[row["where"]]
        ending = str(tokenizer.decode(list(input_ids[first:end])))
        found.append(
            HeldOutRow(
                id=ids(row["where"]),
                input_ids=input_ids,
                spans=spans,
                prompt=str(tokenizer.decode(list(input_ids[:first]))),
                ending=ending,
                answer=answer if answer.strip() and answer.strip() in ending else "",
            )
        )
    lost = {reason: count for reason, count in encoded.account.dropped.items() if count}
    if longer := len(encoded.dataset) - len(found):
        lost[f"longer than the {room:,} tokens that the model can hold"] = longer
    return found, lost


def unique() -> Callable[[str], str]:
    """A function that makes a short name of a row's place, each another one."""
    seen: dict[str, int] = {}

    def name(where: str) -> str:
        short = where.rsplit("/", 1)[-1]
        seen[short] = seen.get(short, 0) + 1
        return short if seen[short] == 1 else f"{short} #{seen[short]}"

    return name


def last_answers(rows: Sequence[Row], config: Config) -> dict[str, str]:
    """Place of each row -> its last answer as text; empty for plain text."""
    found: dict[str, str] = {}
    for source, part in groupby(rows, key=lambda row: row.source):
        some = list(part)
        shape = row_format(some[0], config.data.of_source(source), config.model.task)
        for row in some:
            is_text = shape.name == "text"
            found[row.where] = "" if is_text else conversation(row, shape).turns[-1].text
    return found


def answer_spans(labels: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """First and one-past-last position of each run of tokens that a loss falls on."""
    spans, start = [], 0
    for is_trained, part in groupby(labels, key=lambda label: label != IGNORED):
        end = start + sum(1 for _ in part)
        if is_trained:
            spans.append((start, end))
        start = end
    return tuple(spans)


def context_length(config: Config, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model can read, or that `evaluate.max_length` allows."""
    described = read_config(config.model)[0].get_text_config()
    length = getattr(described, "max_position_embeddings", None)
    held = int(length) if length else min(int(tokenizer.model_max_length), 2048)
    return min(held, config.evaluate.max_length or held)


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


def turn_ends(rows: Sequence[HeldOutRow], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens that the rows' last answers end with."""
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    last = {str(tokenizer.convert_ids_to_tokens(row.input_ids[row.spans[-1][1] - 1])) for row in rows}
    return sorted(last & special)


def labelled(
    rows: Sequence[Row], config: Config, labels: list[str], tokenizer: PreTrainedTokenizerBase
) -> PreparedBenchmark:
    """Texts whose class is to be told, as training reads them but never cut.

    Raises:
        ConfigError: train.json names no classes.
        DataError: no text fits into the model's context.
    """
    if not labels:
        raise ConfigError("train.json: no labels (force=true 'steps=[train]' trains again and writes it)")
    room, ids = context_length(config, tokenizer), unique()
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
    return PreparedBenchmark(name, config, examples, [])
