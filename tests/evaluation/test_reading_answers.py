"""Answers to reading comprehension score as the scripts of CMRC 2018 and SQuAD score them."""

import json
import random
import re

import pytest
from test_targets import judged, prepared

from workbench.config.benchmark import LocalConfig
from workbench.evaluation.metrics import reading_answers, text_similarity
from workbench.evaluation.metrics.reading_answers import latin_words

REMOVED = [*"-:_*^/\\~`+=", *"，。：？！“”；’《》", "……", *"·、「」（）－～『』"]
PIECES = [
    *(
        "北京",
        "大学",
        "的",
        "１９",
        "《红楼梦》",
        "、",
        "，",
        "……",
        "…",
        "“是”",
        "（旧）",
        "－",
        "鿿",
        "々",
        "年",
    ),
    *(
        "Andrew W. Mellon",
        "Hey! Say! JUMP",
        "1,234.5",
        "U.S.",
        "don't",
        "R&B",
        "50%",
        '"A"',
        "co-op",
        " ",
        ". ",
    ),
    *(
        "St. John",
        "it's",
        "'tis",
        "cannot",
        "1998-2000",
        "a/b",
        "[1]",
        "(x)",
        "No. 5",
        "Jay, Kay",
        "...",
        "C#",
    ),
]


def official_segments(text: str) -> list[str]:
    """What the published description says: Chinese characters, and NLTK's words of what lies between."""
    nltk_words = pytest.importorskip("nltk.tokenize.destructive").NLTKWordTokenizer()
    sentences = pytest.importorskip("nltk.tokenize.punkt").PunktSentenceTokenizer()
    kept = "".join(letter for letter in text.lower().strip() if letter not in REMOVED)
    segments = []
    for piece in re.findall("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+", kept):
        for sentence in sentences.tokenize(piece):
            segments += nltk_words.tokenize(sentence)
    return segments


def official_scores(prediction: str, references: list[str]) -> tuple[float, float]:
    """F1 of the longest substring of segments, and exact match, over all pairs of starts."""
    f1, exact = 0.0, 0.0
    for reference in references:
        ours, theirs = official_segments(prediction), official_segments(reference)
        longest = max(
            (
                next(
                    (
                        n
                        for n in range(1, 999)
                        if ours[i : i + n] != theirs[j : j + n] or i + n > len(ours) or j + n > len(theirs)
                    ),
                    0,
                )
                - 1
                for i in range(len(ours))
                for j in range(len(theirs))
            ),
            default=0,
        )
        if longest:
            precision, recall = longest / len(ours), longest / len(theirs)
            f1 = max(f1, 2 * precision * recall / (precision + recall))
        bare = [[c for c in text.lower().strip() if c not in REMOVED] for text in (prediction, reference)]
        exact = max(exact, float(bare[0] == bare[1]))
    return f1, exact


def test_cmrc_scores_of_mixed_texts_are_the_scripts():
    drawn = random.Random(2018)
    for _ in range(400):
        text = "".join(drawn.choices(PIECES, k=drawn.randint(1, 8)))
        start = drawn.randrange(len(text))
        references = [text, text[start:], "".join(drawn.choices(PIECES, k=3))][drawn.randrange(3) :]
        prediction = text[drawn.randrange(start + 1) : start] + drawn.choice(PIECES) + text[start:][:9]
        f1, exact = official_scores(prediction, references)
        assert max(reading_answers.cmrc_f1(prediction, one) for one in references) == pytest.approx(f1)
        assert max(reading_answers.cmrc_em(prediction, one) for one in references) == exact


def test_cmrc_f1_counts_one_run_and_not_a_subsequence():
    assert reading_answers.cmrc_f1("北京大学", "北方大学") == 2 * 2 / 8  # the subsequence would have three
    assert reading_answers.cmrc_f1("", "北") == reading_answers.cmrc_f1("——", "北") == 0.0
    assert reading_answers.cmrc_em("“北京”，", "北京") == 1.0
    assert reading_answers.cmrc_em("北京…", "北京") == 0.0  # the script's list has two dots of six only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # nltk 3.10.4: NLTKWordTokenizer().tokenize of each of PunktSentenceTokenizer().tokenize(text)
        ("andrew w. mellon, st. john", ["andrew", "w.", "mellon", ",", "st", ".", "john"]),
        (
            "they can't, he'll: 'tis 1,234.50$.",
            ["they", "ca", "n't", ",", "he", "'ll", ":", "'", "tis"] + ["1,234.50", "$", "."],
        ),
        ('say "hey!" (gonna)', ["say", "``", "hey", "!", "''", "(", "gon", "na", ")"]),
        ("dogs' r&b no. 5 u.s.", ["dogs", "'", "r", "&", "b", "no", ".", "5", "u.s", "."]),
    ],
)
def test_latin_words_are_split_as_the_penn_treebank_splits_them(text, expected):
    assert latin_words(text) == expected


def test_squad_scores_normalize_case_punctuation_and_articles():
    assert reading_answers.squad_em("The  Eiffel-Tower!", "eiffeltower") == 1.0
    assert reading_answers.squad_em("theatre", "atre") == 0.0
    assert reading_answers.squad_f1("in the year 1905", "1905, in May") == 2 * 2 / (3 + 3)
    assert reading_answers.squad_f1("the", "a") == 1.0 and reading_answers.squad_f1("", "Paris") == 0.0
    assert reading_answers.squad_f1("no no no", "no") == 2 / 4


@pytest.mark.peer
def test_squad_scores_are_torchmetrics():
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    drawn = random.Random(1606)
    pieces = ["the", "a", "An", "Eiffel", "tower,", "tower", "'s", "1905", "-", "北京", "is.", "U.S."]
    for _ in range(200):
        prediction = " ".join(drawn.choices(pieces, k=drawn.randint(0, 5)))
        references = [
            " ".join(drawn.choices(pieces, k=drawn.randint(0, 5))) for _ in range(drawn.randint(1, 4))
        ]
        answers = {"text": references, "answer_start": [0] * len(references)}
        official = squad({"prediction_text": prediction, "id": "1"}, {"answers": answers, "id": "1"})
        for name in ("f1", "em"):
            score = getattr(reading_answers, f"squad_{name}")
            ours = max(score(prediction, reference) for reference in references)
            assert 100 * ours == pytest.approx(float(official["f1" if name == "f1" else "exact_match"]))


def test_any_number_of_references_is_scored_in_nested_and_in_flat_rows(tmp_path):
    answers = [["李白", "唐代诗人李白"], ["杜甫"], ["1998-2000年", "2000年", "1998"]]
    nested = [
        {
            "context": "甲",
            "qas": [{"q": "谁？", "answers": answers[0]}, {"q": "还有谁？", "answers": answers[1]}],
        },
        {"context": "乙", "qas": [{"q": "何时？", "answers": answers[2]}]},
    ]
    flat = [
        {"context": paragraph["context"], "q": qa["q"], "answers": {"text": qa["answers"]}}
        for paragraph in nested
        for qa in paragraph["qas"]
    ]
    metrics = ["cmrc_f1", "cmrc_em", "squad_f1", "squad_em", "rougeL"]
    generated = ["诗人李白", "杜牧", "1998－2000年"]
    layouts = [
        (nested, {"local": LocalConfig(unfold="qas"), "target": "{{ answers }}"}),
        (flat, {"target": "{{ answers.text }}"}),
    ]
    outcomes = []
    for number, (rows, changes) in enumerate(layouts):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes.append(judged(prepared(folder, rows, metrics=metrics, **changes), generated))
    [first, scores], [second, _] = outcomes
    assert [one.scores for one in first] == [one.scores for one in second]
    assert [one.scores["cmrc_f1"] for one in first] == [8 / 10, 2 / 4, 1.0]
    assert [one.scores["cmrc_em"] for one in first] == [0.0, 0.0, 1.0]
    assert scores[0].value == pytest.approx((0.8 + 0.5 + 1.0) / 3)
    assert json.loads(json.dumps(first[2].target)) == answers[2]


def test_rouge_l_of_chinese_counts_characters_of_the_best_reference():
    rouge_score = pytest.importorskip("rouge_score.rouge_scorer")

    class Characters:
        """Splits a text into characters, as LCSTS and LongBench do for Chinese."""

        def tokenize(self, text: str) -> list[str]:
            return list(text)

    scorer = rouge_score.RougeScorer(["rougeL"], tokenizer=Characters())
    drawn = random.Random(2004)
    for _ in range(50):
        first, second = ("".join(drawn.choices("天地人和山水风云", k=drawn.randint(1, 12))) for _ in range(2))
        expected = scorer.score(second, first)["rougeL"].fmeasure
        assert text_similarity.rouge_l(first, second) == pytest.approx(expected)
