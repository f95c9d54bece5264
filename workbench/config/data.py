"""The data section: training rows, their format, chat template and length."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any

from workbench.config.names import COLUMNS, key_of
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError

DataFormat = Enum(
    "DataFormat",
    {
        "auto": "auto",
        "alpaca": "alpaca",
        "sharegpt": "sharegpt",
        "messages": "messages",
        "prompt-completion": "prompt-completion",
        "text": "text",
        "labelled": "labelled",
    },
)
"""Format of the training rows; auto: detected from the columns."""

Template = Enum(
    "Template",
    {
        "auto": "auto",
        "alpaca": "alpaca",
        "alpaca-zh": "alpaca-zh",
        "chatml": "chatml",
        "open-llama": "open-llama",
        "plain": "plain",
    },
)
"""Chat template, which turns a conversation into text; auto: the tokenizer's own if it has one."""

TEMPLATE_ENDINGS = (".jinja", ".jinja2", ".j2")

Truncation = Enum("Truncation", {"cut-end": "cut-end", "cut-start": "cut-start", "drop": "drop"})
"""What happens to a row longer than `data.max_length`."""

CheckMask = Enum("CheckMask", {"refuse": "refuse", "warn": "warn"})
"""What happens if other tokens than the answer and its end token would count in the loss."""

Thoughts = Enum("Thoughts", {"train": "train", "mask": "mask", "strip": "strip"})
"""What happens to the reasoning before an answer: with loss, without loss, or removed."""


def check_columns(columns: Mapping[str, str], source: str) -> None:
    """Refuse an unknown role: no format would read its column.

    Args:
        columns: Role -> column name.
        source: Name in `data.sources`; empty: the data section itself.

    Raises:
        ConfigError: A role is unknown; the message lists the known ones.
    """
    for role in columns:
        if role not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise ConfigError(f"{key_of('columns', source)}.{role}: unknown role {role!r} (known: {known})")


def is_template_file(value: str) -> bool:
    """Return whether a value of `data.template` is a file: it ends like one (.jinja), or exists as a file."""
    return value not in Template.__members__ and (value.endswith(TEMPLATE_ENDINGS) or Path(value).is_file())


def check_template(key: str, value: str) -> None:
    """Refuse a value that is neither the name of a chat template nor a template file.

    Raises:
        ConfigError: The message starts with `key`, and has the similar and all known names.
    """
    if value in Template.__members__ or is_template_file(value):
        return
    known = ", ".join(Template.__members__)
    near = get_close_matches(value, list(Template.__members__), n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"{key}: unknown template {value!r} ({meant}known: {known}; or a file NAME.jinja; "
        "auto is the model's own)"
    )


@dataclass(kw_only=True)
class SourceConfig:
    """One data set of `data.sources`; its fields replace those of the data section with the same names."""

    path: str
    """A file, a folder of files, a hub id, or modelscope:OWNER/NAME."""

    weight: float = number(1.0, 0, 10**4, above=True)
    """How often each row comes in an epoch. 2: twice. 0.5: half of the rows come once, drawn by `seed`."""

    format: DataFormat = DataFormat.auto
    """Which columns a row has. auto: as data.format."""

    columns: dict[str, str] = field(default_factory=dict)
    """Role -> column name. Empty: as data.columns."""

    split: str | None = None
    """Split of a hub data set or a folder. null: as data.split."""

    subset: str | None = None
    """Configuration of a hub data set. null: as data.subset."""

    template: str = "auto"
    """How turns become text. auto: as data.template."""

    template_arguments: dict[str, Any] = field(default_factory=dict)
    """Variables of the chat template. Empty: as data.template_arguments."""

    thoughts: Thoughts | None = None
    """What happens to reasoning before answers. null: as data.thoughts."""

    limit: int | None = number(None, 1, 10**12)
    """Number of rows to use, the first ones, before `weight` applies. null: as data.limit."""

    delimiter: str = ""
    """Character between two cells. Empty: as data.delimiter."""

    quoting: bool | None = None
    """Whether quotation marks around a cell are removed. null: as data.quoting."""

    unfold: str = ""
    """Column with a list of objects. Empty: as data.unfold."""


@dataclass(kw_only=True)
class DataConfig:
    r"""Training rows: files, columns, chat template, length, and the rows held out.

    Example:
        python -m workbench recipe=sft model.path=MODEL data.path=rows.csv \
            'data.columns={prompt: question, completion: answer}' data.max_length=1024
    """

    path: str = ""
    """A file, a folder of files, a hub id, or modelscope:OWNER/NAME. Files: .jsonl, .json, .csv, .tsv,
    .parquet, .arrow, .feather, .txt, .md (not in a folder). Empty: no data."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Several data sets instead of data.path, each under a name that you choose: {chat: {path: a.jsonl,
    weight: 2}, exams: {path: b.csv}}."""

    format: DataFormat = DataFormat.auto
    """Which columns a row has. auto: decided by the columns. alpaca: instruction, input, output. sharegpt:
    conversations. messages: messages. prompt-completion: prompt, completion. text: text. labelled: text or a
    pair of texts, and label."""

    columns: dict[str, str] = field(default_factory=dict)
    """Role -> column name, where the file's names differ: {prompt: question, completion: answer}. An unknown
    role is refused with the list of all roles."""

    split: str = "train"
    """Split of a hub data set. Of a folder whose file names tell splits apart (train.jsonl, test.jsonl): the
    files of this split."""

    subset: str | None = None
    """Name of one configuration of a hub data set that has several. Of a data set of ModelScope: one of its
    folders."""

    delimiter: str = ""
    """CSV and TSV: the character between two cells, or the word tab. Empty: detected from the content."""

    quoting: bool | None = None
    """CSV and TSV: true removes quotation marks around a cell, false reads a quotation mark as text. null:
    detected from the content."""

    unfold: str = ""
    """Column with a list of objects, each of which becomes a row. Dots lead into nested lists:
    `data.paragraphs.qas` gives all questions of all paragraphs of all articles, with the columns of paragraph
    and article."""

    labels: list[str] = field(default_factory=list)
    """Classifier: class names in the order of their numbers. Empty: the labels of the rows, sorted."""

    labels_file: str = ""
    """Classifier: text file of class names, instead of data.labels; one per line, or on one line with commas.
    If the names are numbered (1-World, 2-Sports), rows may have the numbers."""

    drop_unlabelled: bool = False
    """Classifier: true leaves out rows without a class (-1, -100, -, null, empty). false stops at the first
    one with an error."""

    streaming: bool = False
    """true for rows that do not fit into memory: they are encoded block by block into a file of the run. A
    classifier then needs data.labels or data.labels_file, and data.packing joins rows of one block only."""

    regression: bool = False
    """Classifier: true predicts a number per text (one output) instead of a class."""

    template: str = "auto"
    """How the turns of a chat become text: auto, alpaca, alpaca-zh, chatml, open-llama, plain, or a file
    NAME.jinja with a chat template as transformers takes it. auto: the tokenizer's chat template, else
    open-llama; for prompt-completion rows plain. plain: the text of the turns without markers. The model is
    saved with the template. A classifier reads its texts without a template."""

    template_arguments: dict[str, Any] = field(default_factory=dict)
    """Variables of the chat template, as in {enable_thinking: false} for Qwen3. They hold for training rows,
    held-out rows, recipe=chat and recipe=predict, and for benchmarks with evaluate.chat_template=true. One
    that the template does not use is refused."""

    thoughts: Thoughts = Thoughts.train
    """The reasoning before an answer: `<think>...</think>` at its start, or a field reasoning_content. train:
    with loss. mask: the model reads it, without loss; also an empty `<think></think>` of the template. strip:
    removed from the rows. Where a template drops the thoughts of earlier turns (Qwen3's does), each answer
    of a chat becomes an example of its own, which reads what the model reads when it is used."""

    split_special_tokens: bool = False
    """true encodes a control token such as `<|im_end|>` in the rows' text as plain characters; use it for
    text from strangers. false encodes it as the control token, which rows of bare text often need. Causal
    models only."""

    check_mask: CheckMask = CheckMask.refuse
    """Before the model is loaded, rows are checked: the loss must fall on the answer and its end token only,
    and no control token may come twice. refuse: stop with an error that shows the row. warn: log it and
    train."""

    max_length: int = number(1024, 2, 2**24)
    """Most tokens per row, prompt and answer together. Longer rows are cut or dropped: data.truncation."""

    truncation: Truncation = Truncation["cut-end"]
    """What happens to a row longer than data.max_length. cut-end: its end is cut off. cut-start: its start is
    cut off. drop: the row is left out. A row that keeps no token of an answer is always left out. The log
    counts both."""

    packing: bool = False
    """true fills a row with several examples, up to data.max_length tokens; examples do not see each other.
    Faster for short examples. Plain text becomes one stream, cut into rows. Causal models only."""

    validation_fraction: float | None = number(None, 0, 1, below=True)
    """Share of the rows held out of training, on which the loss is reported and base and trained model are
    compared. 0: none. null: none if benchmarks are named, with fewer than 200 rows, or with data.streaming;
    else 5%, at least 20 and at most 500 rows."""

    limit: int | None = number(None, 1, 10**12)
    """Number of rows to use, the first ones, of each source. null: all rows."""

    shuffle_answers: bool = False
    """true gives each prompt the answer of another row. In this control experiment a real gain must
    vanish."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, unknown roles and templates, and keys that exclude each other."""
        check_ranges(self, "data")
        if self.path and self.sources:
            raise ConfigError(
                "data.path: stands beside data.sources (make it one of them, or leave them out)"
            )
        check_columns(self.columns, "")
        check_template("data.template", self.template)
        for name, source in self.sources.items():
            check_columns(source.columns, name)
            check_template(key_of("template", name), source.template)
        if self.streaming and self.shuffle_answers:
            raise ConfigError("data.streaming: answers can't be shuffled a block at a time (set one false)")
        if self.labels and self.labels_file:
            raise ConfigError("data.labels_file: stands beside data.labels (one of them)")
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"data.labels: a name stands twice in {self.labels!r}")

    def paths(self) -> list[str]:
        """Return the path of each data set; empty if no data is given."""
        return [source.path for source in self.sources.values()] or [path for path in [self.path] if path]

    def of_source(self, name: str) -> "DataConfig":
        """Return a copy of this section with the data set `name` of `sources` as its only one.

        Settings of the data set replace the section's. Without sources, the section itself is returned.
        """
        if not self.sources:
            return self
        source = self.sources[name]
        return replace(
            self,
            path=source.path,
            sources={},
            format=self.format if source.format is DataFormat["auto"] else source.format,
            columns=source.columns or self.columns,
            split=source.split or self.split,
            subset=source.subset or self.subset,
            template=self.template if source.template == Template["auto"].name else source.template,
            template_arguments=source.template_arguments or self.template_arguments,
            thoughts=source.thoughts or self.thoughts,
            limit=source.limit or self.limit,
            delimiter=source.delimiter or self.delimiter,
            quoting=self.quoting if source.quoting is None else source.quoting,
            unfold=source.unfold or self.unfold,
        )
