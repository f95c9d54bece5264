"""Boards of any size from a seed, without runs: models, columns, outcomes, differences and item texts."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from workbench.evaluation.records import Score
from workbench.leaderboard.board import (
    BETTER,
    UNSURE,
    WORSE,
    Board,
    BoardFamily,
    Cell,
    Column,
    Difference,
    EarlyDecision,
    Forgetting,
    Mean,
    MeanScore,
    Model,
    Outcomes,
    SeedGroup,
    Skipped,
    SubjectDifference,
)
from workbench.leaderboard.page.texts import NOT_CHOSEN, ColumnTexts
from workbench.shown import message

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "a|b\nsecond line",
    "\x1b[31mred\x1b[0m \u202egnp.exe",
    "שלום عربي",
    "=1+1 {{ 7*7 }} ${x} `y`",
    "\ud800 &amp; \"'",
)
"""Names that must be shown as text."""

BENCHMARKS = (
    ("cmmlu", "zh", 11582, 0.25),
    ("ceval", "zh", 1346, 0.25),
    ("c3", "zh", 3892, 0.28),
    ("阅读理解", "zh", 800, 0.25),
    ("mmlu", "en", 14042, 0.25),
    ("hellaswag", "en", 10042, 0.25),
    ("arc_easy", "en", 2376, 0.25),
    ("gsm8k", "en", 1319, 0.0),
)
SUBJECTS = {
    "zh": ("法学", "医学", "中国历史", "高中物理", "古汉语", "会计学"),
    "en": ("law", "anatomy", "world_history", "physics", "logic", "accounting"),
}
ALPHA = 0.03
UNVERIFIED = message(
    "not verified: its scores have no checksums (made by an earlier version, or copied without run.json)"
)


@dataclass(frozen=True)
class Size:
    """What to make."""

    models: int = 8
    columns: int = 8
    items: int = 120
    seed: int = 0
    hostile: bool = False
    reference: bool = True
    generated: tuple[str, ...] = ("gsm8k",)
    cluster: int = 1
    """Items of a text in the column c3."""


def make_board(size: Size = Size()) -> Board:  # noqa: B008 -- frozen
    """Return a board of `size`; equal sizes give equal boards."""
    dice = np.random.default_rng(size.seed)
    models = tuple(make_model(number, size) for number in range(size.models))
    columns = tuple(make_column(number, size) for number in range(size.columns))
    outcomes = {column.key: make_outcomes(column, models, size, dice) for column in columns}
    cells, differences, subjects = [], [], []
    family_size = (size.models - 1) * size.columns if size.reference else 0
    pairs = [(0, second) for second in range(1, size.models)]
    if not size.reference:
        pairs = [(a, b) for b in range(size.models) for a in range(b)]
        family_size = len(pairs) * size.columns
    for column in columns:
        found = differences_of(column, outcomes[column.key], pairs, family_size)
        differences += found
        cells += cells_of(column, outcomes[column.key], models, found)
        subjects += subjects_of(outcomes[column.key], found[:3])
    means = tuple(means_of(name, columns, outcomes, models) for name in ("zh", "en", "all"))
    differences += [mean_difference(mean, *pair, family_size) for mean in means if mean for pair in pairs]
    return Board(
        title="Open-Llama on Chinese and English benchmarks",
        models=models,
        columns=columns,
        cells=(*cells, *apart_cells(columns, models)),
        outcomes=outcomes,
        family=BoardFamily(
            kind="reference" if size.reference else "pairs",
            reference=models[0].key if size.reference else "",
            num_comparisons=family_size,
            alpha=ALPHA,
        ),
        differences=tuple(difference for difference in differences if difference is not None),
        means=tuple(mean for mean in means if mean is not None),
        subjects=tuple(subjects),
        forgetting=forgetting_of(models, columns),
        seeds=seeds_of(models, columns, cells),
        alarms=(
            message(
                "{model} on {column}: {problem}",
                model=models[0].name,
                column="cmmlu",
                problem=message(
                    "its file of predictions has {count} of the {total} items that it scored",
                    count=11580,
                    total=11582,
                ),
            ),
        ),
        decisions=decisions_of(models),
        skipped=(Skipped(path="old/results.json", reason="schema_version is 7 (known: 1)"),),
        provenance={label: record(label) for model in models for label in model.sources},
    )


def make_model(number: int, size: Size) -> Model:
    """Return a model: a base first, then quantized, tuned, merged and imported ones."""
    kinds = ("base", "base", "base", "adapter", "adapter", "adapter", "merged", "imported")
    role = kinds[number % len(kinds)]
    quantization = ("none", "int8", "nf4")[number % 3] if role == "base" else ("none", "nf4")[number % 2]
    rank = (8, 64)[number // 2 % 2]
    name = {
        "base": f"SmolLM2-135M {quantization}".removesuffix(" none"),
        "adapter": f"alpaca-zh r{rank} seed {number}",
        "merged": f"alpaca-zh r{rank} merged",
        "imported": "Qwen2.5-0.5B (lm-eval)",
    }[role]
    name += f" #{number // len(kinds) + 1}" if number >= len(kinds) else ""
    if size.hostile:
        name = HOSTILE[number % len(HOSTILE)] + (f" {number}" if number >= len(HOSTILE) else "")
    facts = {
        "path": f"models/{number}",
        "quantization": quantization,
        "dtype": "bfloat16",
        "num_parameters": 134_515_008,
        "size_bytes": {"none": 269_030_016, "int8": 162_000_000, "nf4": 102_000_000}[quantization]
        + 1000 * number,
        "peak_bytes": 900_000_000 + 10_000_000 * number,
        "tokens_per_second": 2100.0 - 70 * number % 1500,
    }
    if role in ("adapter", "merged"):
        facts |= {
            "method": "lora",
            "rank": rank,
            "learning_rate": 2e-4,
            "seed": number,
            "trained_on": "alpaca-zh",
            "curves": {
                "loss": [[step, 1.2 + 2 / (1 + step / 20) + 0.01 * number] for step in range(0, 200, 5)],
                "eval_loss": [[step, 1.3 + 2 / (1 + step / 22)] for step in range(0, 200, 50)],
            },
        }
    if role == "adapter":
        facts["contamination"] = {
            "cmmlu": {
                "num_items": size.items,
                "num_short": 3,
                "found": [
                    {"id": "法学/0", "row": "train.jsonl:17", "kind": "verbatim", "share": 1.0, "longest": 41}
                ],
                "clean": {"acc": {"value": 0.31, "interval": [0.25, 0.37], "num_items": size.items - 1}},
            }
        }
    return Model(
        key=f"{number:016x}",
        name=name,
        role=role,
        parent=None if role in ("base", "imported") else f"{0:016x}",
        tool="lm-eval 0.4.13" if role == "imported" else "workbench 0.1",
        facts=facts if role != "imported" else {},
        sources=(f"run-{number}",),
        recipe_key=f"recipe-{rank}" if role == "adapter" else "",
        remarks=(UNVERIFIED,) if role == "imported" else (),
        failure="out of memory" if number and number == size.models - 1 and size.models > 8 else "",
    )


def make_column(number: int, size: Size) -> Column:
    """Return a column of one of the benchmarks."""
    name, language, total, chance = BENCHMARKS[number % len(BENCHMARKS)]
    label = name if number < len(BENCHMARKS) else f"{name} ({number // len(BENCHMARKS)}-shot)"
    if size.hostile and number < len(HOSTILE):
        label = name = HOSTILE[number]
    return Column(
        key=f"{number + 0xC000:016x}",
        label=label,
        benchmark=name,
        language=language,
        metric="exact_match" if name in size.generated else "acc",
        protocol="official",
        num_fewshot=number // len(BENCHMARKS),
        rule="0123456789abcdef",
        prompts="ab" * 32,
        num_items=size.items,
        num_total=max(total, size.items),
        average="micro",
        chance=chance,
        majority=chance + 0.02 if chance else None,
        is_share=True,
        lower_is_better=False,
    )


def make_outcomes(column: Column, models: tuple[Model, ...], size: Size, dice) -> Outcomes:
    """Return right and wrong answers: items share their difficulty, models differ in skill."""
    difficulty = dice.normal(0, 1.2, size.items)
    skill = np.linspace(-0.6, 0.9, len(models)) + dice.normal(0, 0.15, len(models))
    right = dice.random((len(models), size.items)) < 1 / (1 + np.exp(difficulty - skill[:, None]))
    names = SUBJECTS.get(column.language, ("",))
    subsets = tuple(names[item % len(names)] for item in range(size.items))
    scored = [number for number, model in enumerate(models) if not model.failure]
    cluster = size.cluster if column.benchmark == "c3" else 1
    return Outcomes(
        column=column.key,
        models=tuple(models[number].key for number in scored),
        ids=tuple(f"{subset}/{item}" for item, subset in enumerate(subsets)),
        subsets=subsets,
        clusters=(np.arange(size.items) // cluster).astype(np.int32),
        values=right[scored].astype(np.float64),
    )


def differences_of(column: Column, outcomes: Outcomes, pairs, family_size: int) -> list[Difference]:
    """Return the paired differences with exact McNemar tests and Bonferroni's correction."""
    index = {key: row for row, key in enumerate(outcomes.models)}
    keys = [(f"{a:016x}", f"{b:016x}") for a, b in pairs]
    keys = [(a, b) for a, b in keys if a in index and b in index]
    first = outcomes.values[[index[a] for a, _ in keys]]
    second = outcomes.values[[index[b] for _, b in keys]]
    gained, lost = (second > first).sum(1), (second < first).sum(1)
    p_values = np.minimum(1, 2 * stats.binom.cdf(np.minimum(gained, lost), gained + lost, 0.5))
    tail = ALPHA / family_size / 2
    low = np.nan_to_num(stats.beta.ppf(tail, gained, lost + 1), nan=0.0)
    high = np.nan_to_num(stats.beta.isf(tail, gained + 1, lost), nan=1.0)
    share = (gained + lost) / column.num_items
    return [
        Difference(
            first=keys[row][0],
            second=keys[row][1],
            column=column.key,
            value=float((gained[row] - lost[row]) / column.num_items),
            low=float((2 * low[row] - 1) * share[row]),
            high=float((2 * high[row] - 1) * share[row]),
            p_value=float(p_values[row]),
            p_adjusted=float(min(1, family_size * p_values[row])),
            family=family_size,
            test="mcnemar-exact",
            num_pairs=column.num_items,
            num_clusters=len(set(outcomes.clusters.tolist())),
            gained=int(gained[row]),
            lost=int(lost[row]),
            detectable=0.11,
            verdict=BETTER if low[row] > 0.5 else WORSE if high[row] < 0.5 else UNSURE,
        )
        for row in range(len(keys))
    ]


def mean_difference(mean: Mean, first: int, second: int, family_size: int) -> Difference | None:
    """Return the difference of two means with a normal interval; None if a model has no mean."""
    keys = [f"{number:016x}" for number in (first, second)]
    if not all(key in mean.scores for key in keys):
        return None
    value = mean.scores[keys[1]].raw - mean.scores[keys[0]].raw
    half = float(stats.norm.isf(ALPHA / family_size / 2)) * 0.015
    p_value = float(2 * stats.norm.sf(abs(value) / 0.015))
    return Difference(
        first=keys[0],
        second=keys[1],
        column=mean.name,
        value=value,
        low=value - half,
        high=value + half,
        p_value=p_value,
        p_adjusted=min(1.0, family_size * p_value),
        family=family_size,
        test="normal",
        num_pairs=1000,
        num_clusters=1000,
        gained=0,
        lost=0,
        detectable=0.05,
        verdict=BETTER if value > half else WORSE if value < -half else UNSURE,
    )


def cells_of(column: Column, outcomes: Outcomes, models, differences) -> list[Cell]:
    """Return the scores of all models, with rank intervals from the tested differences."""
    better = {key: 0 for key in outcomes.models}
    worse = dict(better)
    for difference in differences:
        winner, loser = difference.second, difference.first
        if difference.verdict == WORSE:
            winner, loser = loser, winner
        if difference.verdict in (BETTER, WORSE):
            better[loser] += 1
            worse[winner] += 1
    names = {model.key: model for model in models}
    return [
        Cell(
            model=key,
            column=column.key,
            score=make_score(names[key], column, outcomes.values[row].mean()),
            further={},
            source=names[key].sources[0],
            best_rank=1 + better[key],
            worst_rank=len(outcomes.models) - worse[key],
            letters="ab"[: 1 + row % 2],
        )
        for row, key in enumerate(outcomes.models)
    ]


def make_score(model: Model, column: Column, value: float, num_items: int | None = None) -> Score:
    """Return a score with a binomial error."""
    count = num_items or column.num_items
    error = float(np.sqrt(value * (1 - value) / count))
    return Score(
        model=model.role,
        benchmark=column.benchmark,
        language=column.language,
        metric=column.metric,
        value=float(value),
        stderr=error,
        interval=[float(value - 1.96 * error), float(value + 1.96 * error)],
        num_items=count,
        num_fewshot=column.num_fewshot,
        protocol=column.protocol,
        prompts=column.prompts,
        chance=column.chance,
        majority=column.majority,
        rule=column.rule,
        groups={"STEM": {"value": float(value), "num_items": count // 3}} if column.language == "zh" else {},
    )


def decisions_of(models) -> tuple[EarlyDecision, ...]:
    """Return two comparisons that could stop early: one is decided, the other is not."""
    decided = EarlyDecision(
        first=models[0].key,
        second="",
        first_name="a (models/0)",
        second_name="b (models/elsewhere)",
        benchmark="cmmlu",
        metric="acc",
        difference=0.0631,
        verdict=BETTER,
        num_decided=1203,
        num_asked=1250,
        num_total=11582,
        alpha=0.025,
        margin=0.02,
        seed=7,
        source="compare/compare.json",
    )
    undecided = replace(
        decided, benchmark="arc_easy", verdict="undecided", num_decided=2376, num_asked=2376, num_total=2376
    )
    return decided, replace(undecided, margin=None)


def apart_cells(columns, models) -> list[Cell]:
    """Return a cell of other items, for the model that failed, where there is one."""
    failed = [model for model in models if model.failure]
    return [
        Cell(
            model=model.key,
            column=columns[0].key,
            score=make_score(model, columns[0], 0.4, 2680),
            further={},
            source=model.sources[0],
            apart=message("{count} of {total} items", count=2680, total=11582),
        )
        for model in failed
    ]


def means_of(name: str, columns, outcomes, models) -> Mean | None:
    """Return the mean over the columns of a language."""
    chosen = [column for column in columns if name in (column.language, "all")]
    if not chosen:
        return None
    scores = {}
    keys = outcomes[chosen[0].key].models
    raw = np.mean([outcomes[column.key].values.mean(1) for column in chosen], axis=0)
    chance = np.mean([column.chance or 0 for column in chosen])
    order = np.argsort(np.argsort(-raw))
    for row, key in enumerate(keys):
        scores[key] = MeanScore(
            raw=float(raw[row]),
            raw_stderr=0.011,
            normalized=float((raw[row] - chance) / (1 - chance)),
            normalized_stderr=0.015,
            best_rank=int(max(1, order[row])),
            worst_rank=int(min(len(keys), order[row] + 2)),
            letters="abc"[row % 3],
        )
    left_out = {}
    if name == "all":
        left_out[columns[-1].key] = message("only {count} of {total} models have it", count=2, total=9)
    return Mean(name=name, columns=tuple(c.key for c in chosen), left_out=left_out, scores=scores)


def subjects_of(outcomes: Outcomes, differences) -> list[SubjectDifference]:
    """Return the differences by subject of some pairs."""
    index = {key: row for row, key in enumerate(outcomes.models)}
    subsets = np.array(outcomes.subsets)
    found = []
    for difference in differences:
        values = outcomes.values[index[difference.second]] - outcomes.values[index[difference.first]]
        for name in dict.fromkeys(outcomes.subsets):
            value = float(values[subsets == name].mean())
            found.append(
                SubjectDifference(
                    first=difference.first,
                    second=difference.second,
                    column=outcomes.column,
                    subject=name,
                    is_group=False,
                    value=value,
                    low=value - 0.3,
                    high=value + 0.3,
                    p_adjusted=0.01 if abs(value) > 0.3 else 1.0,
                    num_pairs=int((subsets == name).sum()),
                    detectable=0.35,
                    verdict=BETTER if value > 0.3 else WORSE if value < -0.3 else UNSURE,
                )
            )
    return found


def forgetting_of(models, columns) -> tuple[Forgetting, ...]:
    """Return what the adapters lost against their parent."""
    return tuple(
        Forgetting(
            model=model.key,
            parent=model.parent,
            columns=tuple(column.key for column in columns),
            value=-0.02 + 0.01 * (number % 3),
            low=-0.035 + 0.01 * (number % 3),
            high=-0.005 + 0.01 * (number % 3),
            p_adjusted=0.01,
            verdict=WORSE if number % 3 == 0 else UNSURE,
        )
        for number, model in enumerate(models)
        if model.parent and not model.failure
    )


def seeds_of(models, columns, cells) -> tuple[SeedGroup, ...]:
    """Return the seeds of each recipe as one row a column."""
    groups = {}
    for model in models:
        if model.recipe_key and not model.failure:
            groups.setdefault(model.recipe_key, []).append(model.key)
    found = []
    for recipe, keys in groups.items():
        for column in columns[:4]:
            values = [cell.score.value for cell in cells if cell.column == column.key and cell.model in keys]
            mean = float(np.mean(values))
            found.append(
                SeedGroup(
                    name=recipe,
                    models=tuple(keys),
                    column=column.key,
                    mean=mean,
                    low=mean - 0.05,
                    high=mean + 0.05,
                    seed_stderr=0.012,
                    item_stderr=0.02,
                    against=models[0].key,
                    checkpoints_verdict=BETTER,
                    recipe_verdict="descriptive",
                )
            )
    return tuple(found)


def record(label: str) -> dict:
    """Return the provenance of a run."""
    return {
        "command": f"python -m workbench recipe=evaluate run_dir=runs/{label}",
        "config": {"model": {"path": "models/smol", "dtype": "bfloat16"}, "seed": 0},
        "hashes": {"weights": "0f" * 32, "data": {"cmmlu": "1e" * 32}},
        "commit": "67ef149" + "0" * 33,
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "machine": {"cpu": "AMD EPYC", "num_cpus": 2},
        "date": "2026-11-29T05:00:00+00:00",
    }


@dataclass
class MadeTexts:
    """Questions and answers of a made board, one column at a time."""

    board: Board
    seed: int = 0
    length: int = 200
    """Characters of a question."""
    asked: list[str] = field(default_factory=list)
    """Keys of the columns that were asked for."""

    def column(self, key: str) -> ColumnTexts | None:
        """Return texts that fit the outcomes: a right answer chooses the target."""
        self.asked.append(key)
        outcomes = self.board.outcomes[key]
        [column] = [column for column in self.board.columns if column.key == key]
        number = self.board.columns.index(column)
        dice = np.random.default_rng([self.seed, number])
        is_zh = column.language == "zh"
        questions = [self.question(is_zh, number, item, dice) for item in range(len(outcomes.ids))]
        if column.chance == 0.0:
            return self.generated(outcomes, questions)
        targets = dice.integers(0, 4, len(outcomes.ids))
        wrong = (targets + dice.integers(1, 4, outcomes.values.shape)) % 4
        chosen = np.where(outcomes.values == 1, targets, wrong).astype(np.int16)
        likelihoods = dice.normal(-12, 2, (*chosen.shape, 4)).astype(np.float32)
        best = likelihoods.max(-1) + dice.exponential(0.7, chosen.shape).astype(np.float32)
        np.put_along_axis(likelihoods, chosen[..., None].astype(int), best[..., None], -1)
        words = ("甲", "乙", "丙", "丁") if is_zh else ("first", "second", "third", "fourth")
        return ColumnTexts(
            questions=questions,
            choices=[[f"{word} {item}" for word in words] for item in range(len(questions))],
            targets=[(int(target),) for target in targets],
            chosen=np.where(chosen == 9, NOT_CHOSEN, chosen).astype(np.int16),
            loglikelihoods=likelihoods,
        )

    def question(self, is_zh: bool, number: int, item: int, dice) -> str:
        """Return a question of about `length` characters that doesn't compress better than text."""
        alphabet, width = (0x4E00, 3000) if is_zh else (0x61, 26)
        count = max(0, self.length - 20)
        letters = np.minimum(dice.zipf(1.3, count), width) - 1 + alphabet
        text = "".join(map(chr, letters.tolist()))
        return f"第{item}题：{text}？" if is_zh else f"Question {number}.{item}: {text}?"

    def generated(self, outcomes: Outcomes, questions: list[str]) -> ColumnTexts:
        """Return generated answers; wrong ones differ between models."""
        texts = [
            [
                f"The answer is {item}."
                if right
                else f"Let me think about step {model}. It must be {item + model + 1}."
                for item, right in enumerate(row)
            ]
            for model, row in enumerate(outcomes.values)
        ]
        return ColumnTexts(
            questions=questions,
            choices=[[] for _ in questions],
            targets=[(str(item),) for item in range(len(questions))],
            generations=texts,
        )


def with_values(board: Board, column: str, values) -> Board:
    """Return the board with other item scores in a column."""
    outcomes = replace(board.outcomes[column], values=np.asarray(values, dtype=np.float64))
    return replace(board, outcomes=board.outcomes | {column: outcomes})
