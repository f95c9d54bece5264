"""Options that an answer quotes from its question are its letters, and repeated lists are nothing."""

import pytest

from workbench.config.benchmark import Extract, GenerationConfig
from workbench.evaluation.extraction.extract import extract
from workbench.evaluation.extraction.question_options import options_of

GLANDS = "题目：下列属于女性生殖腺的是\nA. 卵巢\nB. 前庭大腺\nC. 前庭球\nD. 乳腺。\n答案："
MORAL = (
    "What does the judge say?\nA. Wrong, Wrong\nB. Wrong, Not wrong\nC. Not wrong, Wrong\nD. False\nAnswer:"
)
LINE = "Q: How much? Answer Choices: (A)1 (B)2 (C)2.5 (D)none of these\nA: Among A through D, the answer is"


def letter(text, question=GLANDS, letters="ABCD", several=False):
    return extract(text, GenerationConfig(extract=Extract.letter), letters, several, question=question)


@pytest.mark.parametrize(
    ("question", "letters", "expected"),
    [
        (GLANDS, "ABCD", ("卵巢", "前庭大腺", "前庭球", "乳腺。")),
        (LINE, "ABCD", ("1", "2", "2.5", "none of these")),
        ("Options: A. one B. two\nlines C. three", "ABC", ("one", "two\nlines", "three")),
        ("例题\nA. 旧\nB. 的\n题目\nA. 新\nB. 好\n", "AB", ("新", "好")),
        ("Shots\nA. x\nB. y\nC. z\nNow\nA. u\nB. v", "ABC", ("x", "y", "z")),
        ("No options. A. Lincoln said so.", "ABCD", ()),
        ("", "ABCD", ()),
    ],
)
def test_options_are_found_in_the_question(question, letters, expected):
    assert options_of(question, letters) == expected


@pytest.mark.parametrize("letter_", "ABCD")
@pytest.mark.parametrize(
    "form",
    [
        "这道题考查解剖学。\n\n**{quoted}**",
        "### 结论\n**{quoted}**",
        "结论：{quoted}",
        "因此，**{quoted}** 是正确答案。",
        "因此，选项 {letter}（{text}）是正确的。",
        "{letter}（{text}）",
        "{letter} {text}",
        "{quoted}\n\n解析：\nA. 卵巢产生卵子。\nB. 前庭大腺是附属腺。\nC. 前庭球属于外阴。\nD. 乳腺不是。",
        "正确答案是：\n{quoted}\n\nB. 前庭大腺：不符合。\nC. 前庭球：不符合。\nD. 乳腺：不符合。",
        "题目：下列属于女性生殖腺的是 A. 卵巢 B. 前庭大腺 C. 前庭球 D. 乳腺\n{quoted}",
        "D. 乳腺\nB. 前庭大腺\nA. 卵巢\nC. 前庭球\n\n所以，{letter}。",
        "{quoted}\n\nA. 卵巢\nB. 前庭大腺\nC. 前庭球\nD. 乳腺",
        "<|begin_of_box|>{letter}<|end_of_box|>",
        "对应选项{letter}。",
        "答：{letter}",
    ],
)
def test_a_quoted_option_is_its_letter(form, letter_):
    text = options_of(GLANDS, "ABCD")["ABCD".index(letter_)].rstrip("。")
    answer = form.format(letter=letter_, text=text, quoted=f"{letter_}. {text}")
    assert letter(answer) == letter_


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The correct answer is B. Wrong, Not wrong", "B"),
        ("\\boxed{\\text{B. Wrong, Not wrong}}", "B"),
        ("A. Wrong, Wrong", "A"),
        ("Answer: D. False", "D"),
        (
            "A. Wrong, Wrong - Incorrect.\nB. Wrong, Not wrong - Correct.\nC. Not wrong, Wrong - Incorrect.",
            "B",
        ),
        ("A. Wrong, Wrong ❌\nC. Not wrong, Wrong ✅\nD. False ❌", "C"),
        ("B. Wrong, Not wrong does fit.", "B"),
    ],
)
def test_an_options_own_words_are_no_verdict_on_it(text, expected):
    assert letter(text, MORAL) == expected


@pytest.mark.parametrize(
    "text",
    [
        "下列属于女性生殖腺的是 A. 卵巢 B. 前庭大腺 C. 前庭球 D. 乳腺",
        "下列正确的是：(A)卵巢 (B)前庭大腺 (C)前庭球 (D)乳腺",
        "D. 乳腺\nC. 前庭球\nB. 前庭大腺\nA. 卵巢",
        "选项A：卵巢\n选项B：前庭大腺\n选项C：前庭球\n选项D：乳腺",
        "A. 卵巢\nB. 前庭腺\nC. 前庭球\nD. 乳腺",
        "A. 卵子\nB. 前庭大腺\nC. 前庭球\nD. 乳腺",
        "A. 卵巢\nB. 前庭大腺\nC. 前庭球\nD. 乳头",
        "| A | 卵巢 |\n| B | 前庭大腺 |\n| C | 前庭球 |\n| D | 乳腺 |",
    ],
)
def test_a_repeated_list_is_no_answer_in_any_layout(text):
    assert letter(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A. 卵巢\nD. 乳腺\nA错误，D正确。", "D"),
        ("A. 卵巢：错误\nB. 前庭大腺：正确\nC. 前庭球：错误\nD. 乳腺：错误", "B"),
        ("**A. 卵巢**\n错误，不是。\n\n**B. 前庭大腺**\n正确，是它。", "B"),
        ("B. 前庭大腺是女性的附属腺体", "B"),
    ],
)
def test_verdicts_and_sentences_on_quoted_options(text, expected):
    assert letter(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("正确的选项有：\nA. 卵巢\nC. 前庭球", "AC"),
        ("正确答案是 **A. 卵巢**、**B. 前庭大腺** 和 **D. 乳腺**。", "ABD"),
        ("A. 卵巢：正确\nB. 前庭大腺：正确\nC. 前庭球：错误\nD. 乳腺：错误", "AB"),
        ('{"answer": ["A", "C"]}', "AC"),
        ("答案是 \\boxed{A}, \\boxed{C}", "AC"),
        ("The correct answers are A, C, and D.", "ACD"),
        ("A. 卵巢\nB. 前庭大腺\nC. 前庭球\nD. 乳腺\n\nBD", "BD"),
    ],
)
def test_several_answers(text, expected):
    assert letter(text, several=True) == expected


CITIES = "The capital of France is\nA. London\nB. Paris\nC. Rome\nD. Madrid\nAnswer:"
TOOLS = "Which tool measures temperature?\nA. ruler\nB. thermometer\nC. scale\nD. All of the above\nAnswer:"


@pytest.mark.parametrize("mark", [" -", " –", " —", ",", ";", " (", " :", " ..."])
@pytest.mark.parametrize("bullet", ["", "- ", "• "])
def test_a_list_with_remarks_is_not_answered_by_its_first_letter(mark, bullet):
    names = ("London", "Paris", "Rome", "Madrid")
    lines = (f"{bullet}**{each}. {name}**{mark} a city" for each, name in zip("ABCD", names, strict=True))
    listed = "\n".join(lines)
    assert letter(listed, CITIES) is None
    for conclusion in (
        "B",
        "B. Paris",
        "**B**",
        "B is correct.",
        "Therefore, B. Paris",
        "The answer is B. Paris.",
    ):
        assert letter(f"{listed}\n\n{conclusion}", CITIES) == "B"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A. London — Incorrect\nB. Paris — Correct\nC. Rome — Incorrect\nD. Madrid — Incorrect", "B"),
        ("Correct answer: B. Paris\nIncorrect: A. London, C. Rome, D. Madrid", "B"),
        ("B. Paris\n\n**Incorrect:**\n- A. London\n- C. Rome\n- D. Madrid", "B"),
        ("Answer: A. London\n\n**B. Paris**\nThis one does not fit.\n\n**C. Rome**\nNor this one.", "A"),
        ("Answer: A. London\n\n- B. Paris\n- C. Rome\n- D. Madrid\n\nThese do not fit.", "A"),
        ("Answer: B. Paris\n\n- A. London\n- C. Rome\n- D. Madrid\n\nThese do not fit.", "B"),
        ("A. London, B. Paris, C. Rome, D. the city of Madrid, the answer is B.", "B"),
        ("A. London, B. Paris and D. Madrid do not fit. C is correct.", "C"),
        ("A. London is correct and B. Paris is correct. Therefore, C. Rome", "C"),
        ("It is B. Paris, not A. London", "B"),
    ],
)
def test_answers_beside_other_options(text, expected):
    assert letter(text, CITIES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A ruler measures length. A scale measures mass. B is correct.", "B"),
        ("A ruler measures length.\n\nB", "B"),
        ("A ruler does not measure temperature.", None),
        ("A. ruler is correct. B. thermometer is correct. C. scale is correct. Therefore, D.", "D"),
    ],
)
def test_an_article_is_no_letter_and_a_conclusion_outweighs_verdicts(text, expected):
    assert letter(text, TOOLS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "A. 卵巢、C. 前庭球、D. 乳腺都不属于附属腺，因此选B。",
        "A、卵巢；C、前庭球；D、乳腺均不符合题意。故选B",
        "A. 卵巢、C. 前庭球和D. 乳腺不符合，所以，B。",
    ],
)
def test_an_elimination_in_one_line(text):
    assert letter(text) == "B"


def test_a_long_question_has_options_and_a_long_text_is_read():
    assert len(options_of("A. B. " * 20_000, "ABCD")) == 2
    assert letter("A. 卵巢\n" * 20_000) == "A"


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [
        ("Statement I is correct", "ABCDEFGHIJ", None),
        ("I. 正确\nII. 错误\n因此选B", "ABCDEFGHIJ", "B"),
        ("The answer is I.", "ABCDEFGHIJ", "I"),
        ("Answer: B\n\nThe following is a multiple choice question about law.\n\nAnswer: C", "ABCD", "B"),
        ("答案：B\n下一题：……\n答案：C", "ABCD", "B"),
        ("<reasoning>答案是A</reasoning>\nB", "ABCD", "B"),
        ("A\n\nB. is wrong because it is not in France.\nC. is wrong, too.", "ABC", "A"),
    ],
)
def test_without_options(text, letters, expected):
    assert letter(text, "", letters) == expected


def test_a_k_after_a_number_is_a_thousand():
    number = GenerationConfig(extract=Extract.number)
    assert extract("She earns $25k a year", number) == "25000"
    assert [extract(text, number) for text in ("a 5 km run", "5K", "3 kg", "k = 3")] == ["5", "5", "3", "3"]
    assert extract("答：18美元。\n\n（每天3个，吃掉4个）", number) == "18"
