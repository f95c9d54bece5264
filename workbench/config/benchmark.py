"""One benchmark: where its rows are, how a row becomes a prompt, and how answers are scored.

Templates are jinja, rendered in a sandbox, over the columns of the row plus `letters` (A, B, ...), where
there are subsets `subset` and its `title`, and where there are choices `choice` (the text of one).
Expressions are jinja expressions: what stands inside `{{ }}`. A null is empty where a template says
`{{ A | default('') }}`, and refused elsewhere.
"""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.names import check_file_name
from workbench.config.once import check_once
from workbench.config.ranges import number
from workbench.errors import ConfigError

LANGUAGES = ("zh", "en")

OutputType = Enum(
    "OutputType",
    {
        "multiple_choice": "multiple_choice",
        "generation": "generation",
        "classification": "classification",
        "perplexity": "perplexity",
        "lm-eval": "lm-eval",
        "answer_loss": "answer_loss",
    },
)
"""How a model answers: likelihood of each choice, text, the head's label, or the likelihood of the text.
lm-eval: as tasks of lm-evaluation-harness say, which it also judges.
answer_loss: the loss of the answers of held-out rows, which a run makes itself and no YAML can ask for."""

Scoring = Enum(
    "Scoring",
    {
        "continuation": "continuation",
        "whole-text": "whole-text",
        "rolling": "rolling",
        "next-token": "next-token",
        "next-piece": "next-piece",
        "mean-nll": "mean-nll",
    },
)
"""continuation: summed log-likelihood of delimiter + choice given the prompt, as lm-evaluation-harness does.
whole-text: the same by the tokens of prompt + choice as one text. Where a choice changes the prompt's last
token, the harness keeps the prompt's own; this scores the changed token, for all choices of the item alike.
rolling: of perplexity, every token that the tokenizer makes of the text, its beginning token too, as
lm-evaluation-harness does (and protocol=lm-eval); otherwise the text's own tokens only.
next-token: the next token's log-probability, for the last token of each bare choice, as LLaMA-Factory does.
next-piece: the same for the vocabulary's entry that reads like the choice, as the official CMMLU code does.
mean-nll: mean over all tokens of prompt + choice, as OpenCompass's ppl mode does."""

Average = Enum("Average", {"micro": "micro", "macro": "macro"})
"""micro: every item counts the same. macro: every subset counts the same."""

FewshotOrder = Enum(
    "FewshotOrder",
    {"first": "first", "random": "random", "harness": "harness", "harness-spare": "harness-spare"},
)
"""first: the first rows of the few-shot split. random: drawn by the item's id and the seed alone.
harness: drawn as lm-evaluation-harness does with this seed, by the number of the question's row.
harness-spare: the same where its task names neither a test split nor a few-shot split. It then draws one row
more, of which the question itself or else the last one is left out."""

Sample = Enum("Sample", {"hash": "hash", "first": "first"})
"""Which items a limit takes. hash: those with the smallest SHA-256 of benchmark, subset and item id.
first: the first rows."""

Extract = Enum(
    "Extract", {"verbatim": "verbatim", "number": "number", "letter": "letter", "pattern": "pattern"}
)
"""What of a generated text is the answer: all of it, a number, a choice letter, or what a pattern finds.
A number or letter is the one that the text states; without a marked number it is the last one."""


@dataclass(kw_only=True)
class LocalConfig:
    """How the original files of a benchmark are laid out under `path`."""

    files: dict[str, str] = field(default_factory=dict)
    """Split -> file below `path` (CSV, TSV, JSON, JSONL, Parquet, Arrow, TXT); `{subset}`: the subset."""
    header: list[str] = field(default_factory=list)
    """Column names of CSV or TSV files without a header row, and of JSON rows that are lists."""
    beside: dict[str, str] = field(default_factory=dict)
    """Column -> file whose n-th line is the n-th row's value; `{stem}` stands for the rows' file name."""
    unfold: str = ""
    """Column with a list of objects, each of which becomes a row of its own (C3: questions on one text).

    Dots lead further down: `data.paragraphs.qas` are the questions of all paragraphs of all articles."""
    quoting: bool = True
    """False for TSV files in which a quotation mark is just a character (SST-2).

    True takes the marks around a cell away, unless the content shows that they are characters."""
    delimiter: str = ""
    """What divides the cells of a table: one character, or tab; empty: told by the content."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column -> expression over the row: makes this layout look like the one that the templates expect."""
    keep: str = ""
    """Expression over the columns: which rows of a file are the benchmark's at all (XNLI: those in Chinese).

    Items are numbered among these; the benchmark's own `keep` leaves out some of them."""


@dataclass(kw_only=True)
class HubConfig:
    """How the benchmark is laid out on the Hugging Face hub."""

    name: str = ""
    """The dataset's configuration; `{subset}` stands for the subset's name."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column -> expression over the row, as in `local.columns`."""


@dataclass(kw_only=True)
class GenerationConfig:
    """Limits of generated answers, and what of them is the answer."""

    max_new_tokens: int = number(64, 1, 10**6)
    """Tokens after which an answer is cut."""
    stop: list[str] = field(default_factory=lambda: ["\n"])
    """The answer ends before the first of these texts."""
    temperature: float = number(0.0, 0, 100)
    """0 takes the likeliest token each time; above, tokens are drawn, by the item's id and the seed alone."""
    top_k: int = number(0, 0, 10**6)
    """Tokens are drawn from so many of the likeliest; 0: from all."""
    top_p: float = number(1.0, 0, 1, above=True)
    """Tokens are drawn from the likeliest whose probabilities together reach this; 1: from all."""
    extract: Extract = Extract.verbatim
    """What of the text is the answer: verbatim, number, letter or pattern; of the target the same."""
    pattern: str = ""
    """Regular expression for `extract: pattern`; its first group in the last match is the answer."""


@dataclass(kw_only=True)
class ProtocolConfig:
    """What a named protocol does otherwise than the benchmark's own keys say; None leaves a fact as it is."""

    description: str | None = None
    """Template of the text before everything else."""
    question: str | None = None
    """Template of the question."""
    continuation: str | None = None
    """Template of what is scored or shown as the answer, after the delimiter."""
    delimiter: str | None = None
    """Text between question and answer."""
    fewshot_delimiter: str | None = None
    """Text between two examples."""
    fewshot_split: str | None = None
    """Split that examples are taken from."""
    fewshot_order: FewshotOrder | None = None
    """Which rows become examples."""
    num_fewshot: int | None = number(None, 0, 10**4)
    """Examples before the question."""
    scoring: Scoring | None = None
    """How a choice is scored."""
    average: Average | None = None
    """How subsets are put together."""
    metrics: list[str] | None = None
    """The metrics, the main one first."""


@dataclass(kw_only=True)
class BenchmarkConfig:
    """One benchmark. `benchmarks.NAME.path` points at local files; without it the hub is asked."""

    source: str = ""
    """Where it comes from: paper and repository."""
    dataset: str = ""
    """Hub id, for users with a network."""
    path: str | None = None
    """Local copy: a folder laid out as `local` says, or one file of rows."""
    language: str
    """Language of the items: zh or en. Empty for lm-eval tasks: told by the letters of the questions."""
    local: LocalConfig = field(default_factory=LocalConfig)
    """Layout of the original files."""
    hub: HubConfig = field(default_factory=HubConfig)
    """Layout on the hub."""
    subsets: dict[str, str] = field(default_factory=dict)
    """Subset -> title. Empty: the benchmark is one set."""
    only: list[str] = field(default_factory=list)
    """Subsets to score; empty: all."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Name -> subsets that are also reported together (STEM, ...)."""
    split: str = "test"
    """Split whose items are scored."""
    fewshot_split: str = ""
    """Split that examples are taken from; empty where there are none."""
    num_fewshot: int | None = number(None, 0, 10**4)
    """Examples before the question. None: the protocol's number, or 0."""
    limit: int | None = number(None, 1, 10**9)
    """Items per subset. None: all."""
    sample: Sample = Sample.hash
    """Which items a limit takes: hash (the same ones for all models and seeds) or first."""
    num_items: int | None = number(None, 1, 10**12)
    """How many items the whole benchmark has; another number is said in a warning."""
    id: str = ""
    """Template of an item's id. Empty: its subset and the number of its row, whatever the limit."""
    keep: str = ""
    """Expression; rows for which it is false are left out."""
    output_type: OutputType
    """multiple_choice, generation, classification (by the head), perplexity or lm-eval."""
    tasks: list[str] = field(default_factory=list)
    """Tasks, groups, tags or patterns of lm-evaluation-harness, or a task's YAML file (lm-eval only)."""
    include_path: str | None = None
    """Folder with task files of one's own for lm-evaluation-harness; functions that they name are run."""
    description: str = ""
    """Template of the text before everything else."""
    question: str = ""
    """Template of the question. If it uses `choice`, each choice has a prompt of its own (WinoGrande)."""
    choices: list[str] = field(default_factory=list)
    """Templates of the choices."""
    choices_file: str = ""
    """A text file of the choices, below `path`, instead of `choices`: one a line, or between commas."""
    options: list[str] = field(default_factory=list)
    """Columns that hold the texts of lettered options (or one that holds a list): what permutations move."""
    choices_from: str = ""
    """Expression that gives the list of choices, instead of `choices`."""
    continuation: str = "{{ choice }}"
    """Template of what is scored after the delimiter, and of the answer in examples."""
    target: str = ""
    """Template of the right answer: the text of one of the choices, or the text to generate. A column that
    holds a list (`{{ answers }}`) names several right ones, of which the best one counts; letters that all
    are wanted stand in one text (`{{ letters | join }}`)."""
    target_index: str = ""
    """Expression for the right choice's number, counted from 0, instead of `target`; a list for several."""
    delimiter: str = " "
    """Text between question and answer."""
    fewshot_delimiter: str = "\n\n"
    """Text between two examples, and between the last one and the question."""
    fewshot_order: FewshotOrder = FewshotOrder.first
    """first (in order), random (by the item's id and the seed), or as the harness draws: see FewshotOrder."""
    scoring: Scoring = Scoring.continuation
    """continuation, whole-text, next-token, next-piece or mean-nll; of perplexity continuation or rolling."""
    average: Average = Average.micro
    """micro (items) or macro (subsets)."""
    unconditional: str = ""
    """Template of the prompt that acc_pmi measures the choices' own likelihood with."""
    metrics: list[str] = field(default_factory=lambda: ["acc"])
    """The metrics, the main one first."""
    protocol: str = "default"
    """Named set of prompt and scoring facts: `default` (the keys above) or one of `protocols`."""
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)
    """Protocol -> what it does otherwise."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """Limits of generated answers."""

    def __post_init__(self) -> None:
        """Refuse combinations that can't be scored."""
        given = [name for name in ("choices", "choices_from", "choices_file") if getattr(self, name)]
        if len(given) > 1:
            both = " and ".join(f"`{name}`" for name in given)
            raise ConfigError(f"benchmarks: both {both} are set (one of them)")
        if self.target and self.target_index:
            raise ConfigError("benchmarks: both `target` and `target_index` are set (one of them)")


def check_benchmark(name: str, benchmark: BenchmarkConfig) -> None:
    """Refuse a name that no file can have, an unknown language, and lists that name something twice.

    Raises:
        ConfigError: With the key.
    """
    check_file_name("benchmarks", name)
    if benchmark.language not in ("", *LANGUAGES):
        known = ", ".join(LANGUAGES)
        raise ConfigError(f"benchmarks.{name}.language: {benchmark.language!r} (known: {known})")
    for key in ("only", "metrics", "options", "tasks"):
        check_once(f"benchmarks.{name}.{key}", getattr(benchmark, key))
