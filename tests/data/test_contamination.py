"""Items of benchmarks in training rows: what is found whatever its form, and what isn't an alarm."""

import random

import opencc
import pytest

from workbench.data.contamination.items import Item
from workbench.data.contamination.search import BATCH, PIECE, contamination
from workbench.data.rows import Row

LAW = "甲、乙签订买卖合同，甲向乙支付全部价款，约定乙应于12月30日前交付货物。下列表述正确的是"
OPTIONS = (
    "甲无权要求乙承担违约责任",
    "甲只能在期满后要求乙承担责任",
    "甲有权要求乙承担违约责任",
    "甲有权撤销合同",
)
FOX = "A quick brown fox jumps over one lazy dog beside the wide river bank before lunch"
FOX_OPTIONS = (
    "It falls into the water.",
    "It climbs the old oak tree.",
    "It catches a red bird.",
    "It sleeps.",
)


def lettered(question: str, options: tuple[str, ...]) -> str:
    return "\n".join([question, *(f"{'ABCD'[n]}. {option}" for n, option in enumerate(options))])


CHINESE = Item("law/1", (f"题目：{lettered(LAW, OPTIONS)}\n答案是：",))
ENGLISH = Item("7", (f"Question: {FOX}\nAnswer:",), FOX_OPTIONS)


ASKED_ZH = ("心脏位于人体的什么部位", "光合作用需要什么气体", "水的化学式应当怎样写", "长江流经了哪些省份")
ASKED_EN = ("Where is the sun?", "Who wrote these books?", "How do fish breathe?", "Why does ice float?")
OTHERS = [
    *(Item(text, (f"题目：{text}\n答案是：",)) for text in ASKED_ZH),
    *(Item(text, (f"Question: {text}\nAnswer:",)) for text in ASKED_EN),
]
"""Items with the same prompts: a benchmark's prompt is what many of its items begin and end with."""


def found(item: Item, *texts: str) -> tuple:
    rows = [Row({"instruction": "Say it:", "output": text}, f"a:{n}") for n, text in enumerate(texts, 1)]
    return contamination({"b": [item, *OTHERS]}, rows)["b"].pairs


def kind(item: Item, text: str) -> str | None:
    pairs = found(item, text)
    return pairs[0].overlap.kind if pairs else None


def test_a_pair_names_the_item_the_row_and_the_longest_common_run():
    [pair] = found(ENGLISH, "Something else.", f"Well: {FOX}! {' '.join(FOX_OPTIONS)}")
    assert (pair.id, pair.where, pair.overlap.kind, pair.overlap.share) == ("7", "a:2", "verbatim", 1.0)
    assert pair.overlap.longest == len(f"{FOX} {' '.join(FOX_OPTIONS)}".split())


@pytest.mark.parametrize("item", [CHINESE, ENGLISH])
def test_options_in_another_order_are_found_as_reordered(item):
    question, options = (LAW, OPTIONS) if item is CHINESE else (FOX, FOX_OPTIONS)
    assert kind(item, lettered(question, options)) == "verbatim"
    assert kind(item, lettered(question, options[::-1])) == "reordered"


def test_traditional_characters_are_simplified_ones():
    traditional = opencc.OpenCC("s2t").convert(lettered(LAW, OPTIONS))
    assert traditional != lettered(LAW, OPTIONS)
    assert kind(CHINESE, traditional) == "verbatim"


def test_width_case_accents_and_punctuation_do_not_matter():
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in lettered(FOX, FOX_OPTIONS).upper())
    assert kind(ENGLISH, wide) == "verbatim"
    assert kind(ENGLISH, lettered(FOX.replace("river", "rive\u0301r"), FOX_OPTIONS)) == "verbatim"
    assert kind(CHINESE, lettered(LAW.replace("，", "\n"), OPTIONS)) == "verbatim"


@pytest.mark.parametrize(("right", "wrong"), [("river", "rivre"), ("dog", "god"), ("quick", "qiuck")])
def test_a_typo_is_found_as_near(right, wrong):
    assert kind(ENGLISH, lettered(FOX.replace(right, wrong), FOX_OPTIONS)) == "near"


def test_another_number_makes_another_question():
    assert kind(CHINESE, lettered(LAW.replace("30", "25"), OPTIONS)) is None


def test_a_long_question_is_found_without_its_options():
    assert kind(ENGLISH, f"{FOX}? Then it catches a red bird.") == "question"


def test_options_alone_are_not_an_alarm():
    assert kind(CHINESE, OPTIONS[2]) is None
    assert kind(ENGLISH, FOX_OPTIONS[2]) is None


def test_a_question_that_only_begins_alike_is_not_an_alarm():
    assert kind(ENGLISH, f"{FOX[:45]} sleeping cats near a barn in the north of the country") is None


def test_a_passage_without_its_question_is_not_an_alarm():
    item = Item("1", (f"{LAW}，{'，'.join(OPTIONS)}。\n甲应当向人民法院提起什么诉讼？",))
    assert kind(item, f"{LAW}，{'，'.join(OPTIONS)}。") is None
    assert kind(item, f"{LAW}，{'，'.join(OPTIONS)}。甲应当向人民法院提起什么诉讼？") == "verbatim"


def test_an_instruction_that_all_items_share_is_not_an_alarm():
    instruction = "Read the sentence and choose the word that fits into the gap best of all:"
    rng = random.Random(0)
    words = [f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge") for b in ("lor", "min", "tas", "ver", "pon")]
    items = [Item(str(n), (f"{instruction} {' '.join(rng.sample(words, 8))}",)) for n in range(40)]
    row = Row({"text": f"{instruction} the cat sat on the ..."}, "a:1")
    copy = Row({"text": items[3].questions[0]}, "a:2")
    assert [pair.id for pair in contamination({"b": items}, [row, copy])["b"].pairs] == ["3"]


def test_items_that_differ_in_a_word_do_not_alarm_for_each_other():
    twins = [Item(c, (f"按照传统的六书体例，汉字“{c}”的造字方法应当属于下列哪一种？",)) for c in "亦益本"]
    fillers = [Item(f"{n}", (f"{n}" * 9,)) for n in range(40)]
    row = Row({"text": twins[1].questions[0]}, "a:1")
    assert [pair.id for pair in contamination({"b": [*twins, *fillers]}, [row])["b"].pairs] == ["益"]


def test_a_short_question_in_fragments_is_not_an_alarm():
    item = Item("1", ("A song by the river was pretty",))
    assert kind(item, "The cake by the river was pretty. She hears a song by the river.") is None
    assert kind(item, "She said that a song by the river was pretty.") == "verbatim"


def test_a_short_item_must_be_a_whole_text_of_the_row():
    item = Item("1", ("三加四等于几?",))
    assert kind(item, "三 加 四 等于几？") == "verbatim"
    assert kind(item, "问：三加四等于几？答：七。") is None


def test_empty_items_and_items_of_punctuation_are_counted_as_too_short():
    items = [Item("1", ("",)), Item("2", ("。。！",)), Item("3", ("！", "？"), ("", " "))]
    result = contamination({"b": items}, [Row({"text": "。。！"}, "a:1"), Row({}, "a:2")])["b"]
    assert (result.num_items, result.num_short, result.count) == (3, 3, 0)


def test_without_items_or_rows_nothing_is_found():
    assert contamination({}, [Row({"text": "a"}, "a:1")]) == {}
    assert contamination({"b": [ENGLISH]}, [])["b"].count == 0


def test_an_item_is_found_in_a_long_text_also_where_its_pieces_meet():
    filler = "Nothing of that kind was to be read here. "
    text = filler * (PIECE // len(filler)) + lettered(FOX, FOX_OPTIONS) + filler * 10_000
    assert kind(ENGLISH, text) == "verbatim"


@pytest.mark.parametrize("room", range(0, 160, 20))
def test_a_row_of_several_texts_is_compared_as_a_whole_wherever_a_batch_ends(room):
    filler = ("Nothing of that kind was to be read here. " * 10_000)[: BATCH // 2]
    others = [Row({"text": filler}, "a:1"), Row({"text": filler[room:]}, "a:2")]
    row = Row({"instruction": FOX, "output": lettered("", FOX_OPTIONS)}, "a:3")
    [pair] = contamination({"b": [ENGLISH, *OTHERS]}, [*others, row])["b"].pairs
    assert (pair.where, pair.overlap.kind) == ("a:3", "verbatim")


def test_huge_items_and_rows_that_repeat_them_take_bounded_time():
    item = Item("1", ("red blue green " * 60_000,))
    row = Row({"text": "red blue green " * 60_000}, "a:1")
    assert contamination({"b": [item, ENGLISH]}, [row])["b"].num_items == 2


def test_a_row_that_repeats_a_phrase_of_many_items_hides_no_item_in_other_rows():
    rng, phrase = random.Random(1), "红蓝绿黄"
    texts = ["".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(24)) for _ in range(60)]
    questions = [text[:12] + phrase * 2 + text[12:] for text in texts[:30]] + texts[30:]
    items = [Item(str(number), (question,)) for number, question in enumerate(questions)]
    rows = [Row({"text": text}, "a:1") for text in (phrase * 80_000, *texts[30:])]
    found_ids = [pair.id for pair in contamination({"b": items}, rows)["b"].pairs]
    assert found_ids == [str(number) for number in range(30, 60)]


def test_each_row_counts_once_as_looked_at():
    rows = [Row({"text": "x" * 300_000}, f"a:{n}") for n in range(4)]
    counts: list[int] = []
    contamination({"b": [ENGLISH]}, rows, counts.append)
    assert sum(counts) == 4
