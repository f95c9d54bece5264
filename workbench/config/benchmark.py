"""One benchmark: where its rows are, how a row becomes a prompt, and how answers are scored."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workbench.config.answering.generation import Extract, GenerationConfig
from workbench.config.answering.protocol import Average, FewshotOrder, OutputType, ProtocolConfig, Scoring
from workbench.config.names import check_file_name, check_once
from workbench.config.ranges import number
from workbench.errors import ConfigError

__all__ = [
    "LANGUAGES",
    "WHICH_ITEMS",
    "Average",
    "BenchmarkConfig",
    "Extract",
    "FewshotOrder",
    "GenerationConfig",
    "HubConfig",
    "LocalConfig",
    "OutputType",
    "ProtocolConfig",
    "Sample",
    "Scoring",
    "check_benchmark",
]

LANGUAGES = ("zh", "en")

WHICH_ITEMS = ("path", "limit", "sample")
"""Keys of a benchmark that say which items are scored, and not how."""

Sample = Enum("Sample", {"hash": "hash", "first": "first"})
"""Which items are scored if `limit` is set."""


@dataclass(kw_only=True)
class LocalConfig:
    """How the original files of a benchmark are laid out under `path`."""

    files: dict[str, str] = field(default_factory=dict)
    """Split -> file below `path`: CSV, TSV, JSON, JSONL, Parquet, Arrow or TXT. `{subset}` stands for the
    name of the subset."""
    header: list[str] = field(default_factory=list)
    """Column names, for CSV and TSV files without a header row and JSON rows that are lists."""
    beside: dict[str, str] = field(default_factory=dict)
    """Column -> file whose line n has the column's value of row n. `{stem}` stands for the name of the file
    with the rows."""
    unfold: str = ""
    """Column with a list of objects, each of which becomes a row. Dots lead into nested lists, as in
    `data.paragraphs.qas`."""
    quoting: bool = True
    """CSV and TSV: true removes quotation marks around a cell, unless the content shows that they are text.
    false reads a quotation mark as text, as SST-2 needs."""
    delimiter: str = ""
    """CSV and TSV: the character between two cells, or the word tab. Empty: detected from the content."""
    columns: dict[str, str] = field(default_factory=dict)
    """New column -> expression over the row. Gives local files the columns that the templates use."""
    keep: str = ""
    """Expression over the columns and `split`, the split that is read. Rows of a file for which it is false
    do not belong to the split, as the other languages of XNLI. Items are numbered without them. Empty: all
    rows belong."""


@dataclass(kw_only=True)
class HubConfig:
    """How the benchmark is laid out on the Hugging Face hub."""

    name: str = ""
    """Configuration of the hub data set. `{subset}` stands for the name of the subset."""
    columns: dict[str, str] = field(default_factory=dict)
    """New column -> expression over the row. Gives hub rows the columns that the templates use."""
    keep: str = ""
    """As `local.keep`, for the rows of the hub."""


@dataclass(kw_only=True)
class BenchmarkConfig:
    r"""The chosen benchmarks.

    NAME is `cmmlu` for `'benchmark=[cmmlu]'`, or the name of a file ./conf/benchmark/NAME.yaml of yours. A
    template is a jinja text over the columns of a row, in a sandbox; it also knows `letters` (A, B, ...),
    `subset` and its `title`, `choice`, the text of one choice, `row['Question Text']` for names with spaces,
    and the filters `regex_replace(PATTERN, NEW)`, `parse_list` (of a text such as `["a", "b"]`, as CSV files
    hold lists) and `from_json` (of a text in JSON). An expression is what jinja has inside {{ }}. An empty
    column is an error, except where the template says `{{ A | default('') }}`.

    Example:
        python -m workbench recipe=evaluate model.path=MODEL 'benchmark=[cmmlu]' \
            benchmarks.cmmlu.path=CMMLU_FOLDER \
            benchmarks.cmmlu.limit=20 benchmarks.cmmlu.protocol=lm-eval
    """

    source: str = ""
    """Where the benchmark comes from: name, paper, repository."""
    dataset: str = ""
    """Hub id of the rows; `{subset}` stands for the name of the subset. Used if `path` is null."""
    plain_text: bool = True
    """Whether predictions hold prompts and generated texts, which pages and tables show. false, for questions
    that must not be published: a prompt is known by its hash alone."""
    path: str | None = None
    """Local copy of the rows: a folder with the files that `local.files` names, or one file. null: the rows
    come from the hub."""
    language: str
    """Language of the items, zh or en; the leaderboard averages by it. Empty, for lm-eval tasks: zh if a
    fifth of the questions' letters are Chinese, else en."""
    local: LocalConfig = field(default_factory=LocalConfig)
    """Layout of the original files."""
    hub: HubConfig = field(default_factory=HubConfig)
    """Layout on the hub."""
    subsets: dict[str, str] = field(default_factory=dict)
    """Subset -> title, as in {law: 法学}. Empty: the benchmark has no subsets."""
    only: list[str] = field(default_factory=list)
    """Subsets to score. Empty: all."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Name -> subsets that get a common score in addition, as in {STEM: [anatomy, astronomy]}."""
    split: str = "test"
    """Split whose items are scored."""
    fewshot_split: str = ""
    """Split from which few-shot examples are taken. Empty: there are none."""
    num_fewshot: int | None = number(None, 0, 10**4)
    """Few-shot examples before each question. null: as many as the protocol says, else 0; of an lm-eval task
    its own number."""
    limit: int | None = number(None, 1, 10**9)
    """Most items per subset. null: all."""
    sample: Sample = Sample.hash
    """Which items `limit` takes. hash: those with the smallest SHA-256 of benchmark, subset and item id, so
    the same items for all models and seeds. first: the first rows."""
    num_items: int | None = number(None, 1, 10**12)
    """Number of items of the complete benchmark. A different number gives a warning. null: not checked."""
    id: str = ""
    """Template of an item's id. Empty: subset and row number."""
    cluster: str = ""
    """Template of what items with a common text share, as `{{ passage }}` for questions on passages. Tests
    take items with the same value together, because they succeed or fail together. Empty: with `local.unfold`
    the row that an item was unfolded from, except where that is one row for all; else each item by itself."""
    keep: str = ""
    """Expression. Rows for which it is false are left out. Empty: all rows stay."""
    output_type: OutputType
    """What the model does. multiple_choice: gives each choice a likelihood. generation: writes text.
    classification: gives a label, with model.task=sequence_classification. perplexity: gives the text a
    likelihood. lm-eval: what the `tasks` of lm-evaluation-harness say. answer_loss is for held-out rows of a
    training; a YAML cannot ask for it."""
    tasks: list[str] = field(default_factory=list)
    """lm-eval: tasks, groups, tags or patterns of lm-evaluation-harness, or YAML files of tasks."""
    include_path: str | None = None
    """lm-eval: folder with task files of yours. Functions that they name run with trust_code=true only."""
    gen_kwargs: dict[str, Any] = field(default_factory=dict)
    """lm-eval: options of generation in place of the tasks' own, as in {max_gen_toks: 64}. Sampling that the
    evaluate section sets precedes them."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """lm-eval: what tasks whose rows are made on the spot are told, as in {max_seq_lengths: [4096]} for
    RULER."""
    description: str = ""
    """Template of the text at the start of the prompt."""
    question: str = ""
    """Template of the question. If it uses `choice`, each choice has its own prompt, as in WinoGrande."""
    choices: list[str] = field(default_factory=list)
    """Templates of the choices, as in [A, B, C, D]."""
    choices_file: str = ""
    """Text file of the choices below `path`, instead of `choices`; one per line, or on one line with
    commas."""
    options: list[str] = field(default_factory=list)
    """Columns with the texts of lettered options, or one column with a list of them. evaluate.permutations
    moves these."""
    choices_from: str = ""
    """Expression that gives the list of choices, instead of `choices`."""
    continuation: str = "{{ choice }}"
    """Template of what follows `delimiter`: it is scored for each choice, and shown as the answer in few-shot
    examples."""
    target: str = ""
    """Template of the right answer: the text of a choice, or the text to write. A column with a list, `{{
    answers }}`, gives several right answers, of which the best match counts. If all letters of a list are
    needed, join them: `{{ letters | join }}`."""
    target_index: str = ""
    """Expression for the number of the right choice, from 0, or a list of numbers. Instead of `target`."""
    delimiter: str = " "
    """Text between question and answer."""
    fewshot_delimiter: str = "\n\n"
    """Text between two few-shot examples, and between the last one and the question."""
    fewshot_order: FewshotOrder = FewshotOrder.first
    """Which rows become few-shot examples. first: the first rows. random: drawn for each item by its id and
    evaluate.fewshot_seed. harness: those that lm-evaluation-harness draws. harness-spare: the same for a task
    without few-shot and test split; one row more is drawn, and the question itself, else the last row, is
    left out."""
    scoring: Scoring = Scoring.continuation
    """How a choice is scored. continuation: log-likelihood of delimiter and choice, as in
    lm-evaluation-harness. whole-text: the same with prompt and choice tokenized as one text, which differs
    where a choice changes the last token of the prompt. next-token: log-probability of the last token of the
    choice, as in LLaMA-Factory. next-piece: log-probability of the vocabulary entry that reads like the
    choice, as in the official CMMLU code. mean-nll: mean over all tokens of prompt and choice, as in
    OpenCompass. For perplexity, continuation scores the tokens of the text; rolling adds the token that the
    tokenizer puts at its start, as in lm-evaluation-harness."""
    average: Average = Average.micro
    """micro: every item counts the same. macro: every subset counts the same."""
    program: str = ""
    """Template of the program that `pass@1` runs: `answer` stands for the generated code, as in
    `{{ prompt }}{{ answer }}` and the tests. The answer passes if the program runs to its end. Only Python's
    standard library is there: `import numpy` fails. The tests run in the process of the answer, which can
    pass without solving its task, by objects that equal everything or by writing the verdict itself."""
    unconditional: str = ""
    """Template of the prompt without a question, for the metric acc_pmi, which scores how much the question
    raises the likelihood of a choice."""
    metrics: list[str] = field(default_factory=lambda: ["acc"])
    """Metrics, the main one first, such as acc, acc_norm, exact_match, char_f1, f1 or macro_f1; an unknown
    name is answered with all names. A name with a slash is a file or hub id for `evaluate.load`, and needs
    trust_code=true."""
    protocol: str = "default"
    """Which way of asking and scoring: default (the keys of the benchmark itself) or a name in
    `protocols`."""
    chat_template: bool | None = None
    """true wraps prompts in the tokenizer's chat template. null: as the protocol says, else as
    evaluate.chat_template."""
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)
    """Protocol -> the keys that it sets differently."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """Limits of generated answers."""

    def __post_init__(self) -> None:
        """Refuse two keys for the choices, or two keys for the target."""
        given = [name for name in ("choices", "choices_from", "choices_file") if getattr(self, name)]
        if len(given) > 1:
            both = " and ".join(f"`{name}`" for name in given)
            raise ConfigError(f"benchmarks: both {both} are set (one of them)")
        if self.target and self.target_index:
            raise ConfigError("benchmarks: both `target` and `target_index` are set (one of them)")


def check_benchmark(name: str, benchmark: BenchmarkConfig) -> None:
    """Check a benchmark's name, language and lists.

    Raises:
        ConfigError: The name is not a valid file name, the language is unknown, or a list has duplicates.
    """
    check_file_name("benchmarks", name)
    if benchmark.language not in ("", *LANGUAGES):
        known = ", ".join(LANGUAGES)
        raise ConfigError(f"benchmarks.{name}.language: {benchmark.language!r} (known: {known})")
    for key in ("only", "metrics", "options", "tasks"):
        check_once(f"benchmarks.{name}.{key}", getattr(benchmark, key))
