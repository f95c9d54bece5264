"""Verdicts on answers to Chinese prompts are those of Multi-IF's checkers in evalscope, one by one.

evalscope needs packages that Hydra excludes, so its two files are imported alone: from an installed evalscope
or from the folder of an unpacked wheel (`pip download --no-deps evalscope`) that EVALSCOPE names.
"""

import importlib.util
import logging
import os
import random
import sys
from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from workbench.evaluation.metrics import instructions

pytestmark = pytest.mark.peer
for package in ("lm_eval", "langdetect", "immutabledict", "emoji"):
    pytest.importorskip(package)

LESS, LEAST = "less than", "at least"
ENGLISH = "This is a short answer in the English language, which says nothing of any interest."
STEP = "我们都喜欢在公园里面散步"
PARK = "今天的天气非常好，我们一起去公园散步。"
INSTRUCTIONS = (
    *(
        (f"length_constraints:number_{unit}", {f"num_{unit}": number, "relation": relation})
        for (unit, numbers), relation in product(
            (("words", (0, 1, 12, 20, 300)), ("sentences", (0, 1, 2, 3, 5))), (LESS, LEAST)
        )
        for number in numbers
    ),
    ("keywords:existence", {"keywords": ["公园", "天气"]}),
    ("keywords:existence", {"keywords": ["park"]}),
    ("keywords:frequency", {"keyword": "好", "frequency": 2, "relation": LEAST}),
    ("keywords:frequency", {"keyword": "dog", "frequency": 2, "relation": LESS}),
    ("keywords:frequency", {"keyword": "(", "frequency": 2, "relation": LESS}),
    ("keywords:forbidden_words", {"forbidden_words": ["公园", "ENGLISH"]}),
    ("keywords:letter_frequency", {"letter": "n", "let_frequency": 3, "let_relation": LEAST}),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 0, "let_relation": LEAST}),
    *(("language:response_language", {"language": language}) for language in ("en", "ja", "ko", "hi", "fr")),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "我们"},
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("detectable_content:postscript", {"postscript_marker": "附言"}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "部分", "num_sections": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}),
    ("detectable_format:json_format", {}),
    ("detectable_format:title", {}),
    ("combination:two_responses", {}),
    ("combination:repeat_prompt", {"prompt_to_repeat": "写一句话。"}),
    ("startend:end_checker", {"end_phrase": "公园散步。"}),
    ("startend:end_checker", {"end_phrase": ""}),
    ("startend:quotation", {}),
    *(
        ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": relation})
        for relation in (LESS, LEAST)
    ),
    ("change_case:english_capital", {}),
    ("change_case:english_lowercase", {}),
    ("punctuation:no_comma", {}),
)
RESPONSES = (
    *("", " ", "\n", "。", ",", "，", "“", "*", "😀", "😀😀", "3", "a", "好", "好 好", "１２"),
    *((STEP * 25)[:length] for length in (299, 300)),
    *(STEP * 25 + end for end in ("", "。", "我", "😀", "=", " = ", "word", " two words")),
    *("，".join([STEP] * 25) + end for end in ("。", "，", ",", "我。")),
    *(
        "今天很好。我们散步" + end
        for end in (
            "",
            "。",
            "！",
            "？你呢",
            "?你呢",
            "!你呢。",
            ".你呢",
            "．你呢",
            "\n你呢",
            "。 。",
            "；你呢",
            "……你呢",
        )
    ),
    *(
        opened + PARK + closed
        for opened, closed in ('""', "“”", "「」", "『』", "《》", "‘’", "''", "”“", ("“", ""))
    ),
    *(
        "".join(pair) + PARK
        for pair in (("<<天气>>", "\n"), ("《天气》", "\n"), ("<< >>", "\n"), ("<天气>", ""))
    ),
    *(
        "今天" + mark + "公园" + mark + "和" + mark + "天气" + mark + "很好，我们散步"
        for mark in ("*", "**", "＊", "_")
    ),
    f"{PARK}\n\n{STEP}",
    f"{PARK}\n***\n{STEP}",
    f"{PARK}\n\n我们都好。",
    f"* {PARK}\n* {STEP}",
    f"- {PARK}\n- {STEP}",
    f"{PARK}\n******\n{STEP}",
    f"{PARK}\n******\n{PARK}",
    f"写一句话。{PARK}",
    f"好的，如下：\n{PARK}",
    f"好的，如下：\n“{PARK}”\n希望对你有帮助！",
    f"{PARK}\n\nP.S. {STEP}",
    f"{PARK}\n\n附言：{STEP}",
    f"第1部分\n{PARK}\n第2部分\n{STEP}",
    f"部分 1\n{PARK}\n部分 2\n{STEP}",
    f"Section 1\n{PARK}\nSection 2\n{STEP}",
    f"亲爱的[姓名]，{PARK}",
    '```json\n{"天气": "好"}\n```',
    '{"天气"： "好"}',
    "My answer is yes.",
    "我的答案是：My answer is no. 因为今天下雨，我们不去公园散步。",
    *(text for text in (ENGLISH, ENGLISH.upper(), ENGLISH.lower(), f"{ENGLISH} {ENGLISH}", f'"{ENGLISH}"')),
    f"{ENGLISH}\n{PARK}",
    f"{PARK}{ENGLISH}",
    "我们在 NASA 和 WHO 工作，今天的天气非常好，dog 和 dog 在公园。",
    "这里的天气😀非常好👨‍👩‍👧，我们🇨🇳一起❤️去公园散步☺。",
    "臺灣的氣候溫暖，這裡的學校與機場都很漂亮。",
    "今日はとても良い天気です。公園を散歩しましょう！",
    "오늘은 날씨가 아주 좋습니다. 공원에서 산책합시다.",
    "आज मौसम बहुत अच्छा है। हम पार्क में टहलने जाते हैं! क्या आप आएंगे?",
    "Aujourd'hui, il fait très beau. Nous allons au parc.",
    "https://en.wikipedia.org/wiki/China 是一个网页，3.14是一个数字。",
    "【今天】的天气＝非常好·我们～一起—去｜公园散步",
)
FRAGMENTS = (
    "，",
    ",",
    "。",
    ". ",
    "\n",
    "\n\n",
    "*",
    "😀",
    " ",
    "“",
    "”",
    '"',
    "[名]",
    "P.S. ",
    "<<",
    ">>",
    "AND",
    PARK,
    STEP,
    ENGLISH,
)


@pytest.fixture
def multi_if(monkeypatch) -> ModuleType:
    """evalscope's module of verdicts on Multi-IF, without the rest of evalscope."""
    installed = importlib.util.find_spec("evalscope")
    root = os.environ.get("EVALSCOPE")
    folder = Path(root or installed.submodule_search_locations[0] if root or installed else "")
    folder = next(
        (
            folder / p
            for p in ("benchmarks/multi_if", "evalscope/benchmarks/multi_if")
            if (folder / p).is_dir()
        ),
        None,
    )
    if folder is None:
        pytest.skip("no evalscope (EVALSCOPE=FOLDER of an unpacked wheel)")
    utilities = ModuleType("evalscope.utils")
    utilities.get_logger = logging.getLogger
    package = ModuleType("multi_if")
    package.__path__ = [str(folder)]
    for name, module in {
        "evalscope": ModuleType("evalscope"),
        "evalscope.utils": utilities,
        "multi_if": package,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "multi_if.ifeval", raising=False)
    return importlib.import_module("multi_if.metrics")


def mixed(number: int) -> list[str]:
    """Texts of fragments in random order."""
    draw = random.Random(0)
    return ["".join(draw.choices(FRAGMENTS, k=draw.randint(2, 8))) for _ in range(number)]


def test_verdicts_are_those_of_evalscope(multi_if, punkt, tmp_path, monkeypatch):
    import langdetect
    import nltk

    monkeypatch.setattr(langdetect, "detect", cache(langdetect.detect))  # its seed makes it repeat itself
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk_data")])
    names, arguments = map(list, zip(*INSTRUCTIONS, strict=True))
    item = {"prompt": "写一句话。", "instruction_id_list": names, "kwargs": arguments}
    differ, followed = [], set()
    for response in (*RESPONSES, *mixed(60)):
        asked = {**item, "response": response}
        ours = instructions.IFEVAL.ask({**asked, "language": "zh"})
        for kind in ("strict", "loose"):
            theirs = getattr(multi_if, f"gen_acc_{kind}")(asked)["follow_instruction_list"]
            for name, values, we, they in zip(names, arguments, ours[kind], theirs, strict=True):
                followed |= {(name, str(values), we)}
                if we is not bool(they):
                    differ.append((kind, name, values, response, we, they))
    assert differ == []
    settled = {(name, values) for name, values, verdict in followed if not verdict} & {
        (name, values) for name, values, verdict in followed if verdict
    }
    assert len(settled) >= 45
