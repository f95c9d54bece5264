"""What a run is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

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
"""The shape of the rows; auto goes by the columns."""

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
"""How turns become text; auto takes the tokenizer's own chat template where it has one."""

Truncation = Enum("Truncation", {"cut-end": "cut-end", "cut-start": "cut-start", "drop": "drop"})
"""What happens to a row longer than `data.max_length`."""

CheckMask = Enum("CheckMask", {"refuse": "refuse", "warn": "warn"})
"""What happens where the loss would not fall on exactly what generation must produce."""

COLUMNS = (
    *("instruction", "input", "output", "history", "system"),
    *("conversations", "messages", "tools"),
    *("prompt", "completion"),
    *("text", "pair", "sentence", "sentence1", "sentence2", "question1", "question2"),
    *("premise", "hypothesis", "label"),
)
"""The roles that a column can play: what `data.columns` maps names of the file's own to."""


def key_of(name: str, source: str) -> str:
    """The full key of a field: of a source, or of the section itself where `source` is empty."""
    return f"data.sources.{source}.{name}" if source else f"data.{name}"


def check_columns(columns: Mapping[str, str], source: str) -> None:
    """Refuse a role that no format has, and whose column nothing would read.

    Raises:
        ConfigError: With the roles that there are.
    """
    for role in columns:
        if role not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise ConfigError(f"{key_of('columns', source)}.{role}: unknown role {role!r} (known: {known})")


@dataclass(kw_only=True)
class SourceConfig:
    """One of several sets of rows; the fields mean what those of the same name in DataConfig mean."""

    path: str
    """A file, a folder of them, or a hub id."""

    weight: float = number(1.0, 0, 10**4, above=True)
    """How often each row comes in an epoch: 2 is twice, 0.5 a seeded half of the rows."""

    format: DataFormat = DataFormat.auto
    """auto: as `data.format`."""

    columns: dict[str, str] = field(default_factory=dict)
    """Role to column; empty: as `data.columns`."""

    split: str | None = None
    """Of a hub data set or a folder; null: as `data.split`."""

    subset: str | None = None
    """Of a hub data set; null: as `data.subset`."""

    template: Template = Template.auto
    """auto: as `data.template`."""

    limit: int | None = number(None, 1, 10**12)
    """The first so many rows only; null: as `data.limit`."""

    delimiter: str = ""
    """Empty: as `data.delimiter`."""

    quoting: bool | None = None
    """null: as `data.quoting`."""

    unfold: str = ""
    """Empty: as `data.unfold`."""


@dataclass(kw_only=True)
class DataConfig:
    """Where the rows lie, what their columns mean, and how they become tokens."""

    path: str = ""
    """A file, a folder of them, or a hub id; empty: no data.

    Files: .jsonl, .json, .csv, .tsv, .parquet, .arrow, .feather, .txt, .md."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Several sets of rows instead of `path`, each under a name of your own."""

    format: DataFormat = DataFormat.auto
    """alpaca, sharegpt, messages, prompt-completion, text or labelled; auto: by the columns."""

    columns: dict[str, str] = field(default_factory=dict)
    """Role to column, where the file's names are others, as in {prompt: question, completion: answer}."""

    split: str = "train"
    """The split of a hub data set; of a folder, the files named after it, where files are named so."""

    subset: str | None = None
    """The configuration of a hub data set that has several."""

    delimiter: str = ""
    """What divides the cells of a table: one character, or tab; empty: told by the content."""

    quoting: bool | None = None
    """Whether quotation marks around a cell of a table belong to the file's format; null: by the content.

    false for TSV files in which a quotation mark is just a character."""

    unfold: str = ""
    """Column with a list of objects, each of which becomes a row; dots lead further down.

    `data.paragraphs.qas` are the questions of all paragraphs of all articles, with their columns."""

    labels: list[str] = field(default_factory=list)
    """Class names in the order of their numbers; empty: sorted as found."""

    labels_file: str = ""
    """A text file of class names instead of `labels`: one a line, or on one line between commas.

    Where they are numbered (1-World, 2-Sports), rows may give these numbers."""

    drop_unlabelled: bool = False
    """A classifier's rows without a class (-1, -100, -, null, empty) are left out; false refuses them."""

    streaming: bool = False
    """For rows that memory doesn't hold: encoded a block at a time into a file of the run, and read from it.

    Classes must be named by `data.labels`; packing joins the rows of a block."""

    regression: bool = False
    """The labels are numbers to be met, by a head with one output, instead of classes."""

    template: Template = Template.auto
    """alpaca, alpaca-zh, chatml, open-llama, plain; auto: the tokenizer's own template, else open-llama.

    plain is the bare text of the turns, and what auto means for prompt-completion rows of text."""

    split_special_tokens: bool = False
    """A control token such as `<|im_end|>` in the rows' own text is encoded as plain characters.

    False, because rows of bare text (prompt-completion, text) often bring their control tokens along."""

    check_mask: CheckMask = CheckMask.refuse
    """Rows whose loss wouldn't fall on exactly what generation must say behind the prompt: refuse or warn.

    Rows are looked at before the model is loaded: the prompt, the end of the turn, doubled tokens."""

    max_length: int = number(1024, 2, 2**24)
    """Tokens of a row, prompt and answer together."""

    truncation: Truncation = Truncation["cut-end"]
    """A longer row: cut-end cuts its end, cut-start its beginning, drop leaves it out.

    A row that would keep no token of an answer is dropped in any case; cuts and drops are counted."""

    packing: bool = False
    """Several examples a row, up to `max_length` tokens; plain text becomes one stream cut into blocks."""

    validation_fraction: float | None = number(None, 0, 1, below=True)
    """Share of the rows held out of training, whose loss is reported; 0: none.

    null: none where benchmarks are named; else 5%, at least 20 and at most 500, of 200 rows or more. Base and
    trained model are then compared on them. Streamed rows are held out only by a share that is given."""

    limit: int | None = number(None, 1, 10**12)
    """The first so many rows only."""

    shuffle_answers: bool = False
    """A control experiment: gives each prompt another row's answer, so that a real gain must vanish."""

    def __post_init__(self) -> None:
        """Refuse values that no data set could serve."""
        check_ranges(self, "data")
        if self.path and self.sources:
            raise ConfigError(
                "data.path: stands beside data.sources (make it one of them, or leave them out)"
            )
        check_columns(self.columns, "")
        for name, source in self.sources.items():
            check_columns(source.columns, name)
        if self.streaming and self.shuffle_answers:
            raise ConfigError("data.streaming: answers can't be shuffled a block at a time (set one false)")
        if self.labels and self.labels_file:
            raise ConfigError("data.labels_file: stands beside data.labels (one of them)")
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"data.labels: a name stands twice in {self.labels!r}")

    def paths(self) -> list[str]:
        """Where all rows lie; empty without data."""
        return [source.path for source in self.sources.values()] or [path for path in [self.path] if path]

    def of_source(self, name: str) -> "DataConfig":
        """The section as one source alone would need it; the section itself where it has no sources."""
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
            template=self.template if source.template is Template["auto"] else source.template,
            limit=source.limit or self.limit,
            delimiter=source.delimiter or self.delimiter,
            quoting=self.quoting if source.quoting is None else source.quoting,
            unfold=source.unfold or self.unfold,
        )
