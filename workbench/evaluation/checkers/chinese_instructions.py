"""Checks whether answers to Chinese prompts follow IFEval's instructions, by the rules of Multi-IF.

Multi-IF (https://arxiv.org/abs/2410.15553) counts the words and sentences of a Chinese or Japanese answer in
its own way, and accepts Chinese quotation marks. Its other checkers decide as those of lm-evaluation-harness,
which are called here. The language of an answer is detected; that of the prompt has no influence. Two rules
are not Multi-IF's: an answer in Thai follows no instruction about a number of words or sentences (Multi-IF
counts them by pythainlp), and an answer's language may be asked to be Chinese, which Multi-IF doesn't know.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

CHINESE = {"zh": ("zh-cn", "zh-tw"), "zh-cn": ("zh-cn",), "zh-tw": ("zh-tw",)}
"""Language that an instruction asks for -> languages that langdetect finds in answers that follow it."""
_IGNORED = dict.fromkeys(map(ord, "\\.!?．/_,{}<>:;$%^&*+\"'—！，。？、`~@#￥…（）：；《》“”()[]»〔〕-「」"))
"""Characters that are deleted before words are counted, so that the text on both sides is one word."""
_CHARACTER = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7af]")
"""A Chinese, Japanese or Korean character that counts as a word."""
_SENTENCE = re.compile("[^!?.。！？．]+")
_QUOTATION_MARKS = ('""', "“”", "「」")


def follow_instructions(item: Mapping[str, Any]) -> dict[str, list[bool]]:
    """Return for each instruction of an item whether its `response` follows it, `strict` and `loose`.

    Loose: the text may also do so without its first line, its last line or asterisks. As in Multi-IF, a
    response that is only white space is checked like any other by the strict rule, and follows nothing by
    the loose one.

    Args:
        item: `instruction_id_list`, `kwargs` with the arguments of each instruction, and `response`.
    """
    random.seed(0)  # the checkers draw the arguments that an item leaves open
    text = item["response"]
    checks = list(map(check_of, item["instruction_id_list"], item["kwargs"]))
    variants = [variant for variant in _variants(text) if variant.strip()]
    return {
        "strict": [bool(text) and check(text) for check in checks],
        "loose": [any(map(check, variants)) for check in checks],
    }


def check_of(name: str, arguments: Mapping[str, Any]) -> Callable[[str], bool]:
    """Return the function that says whether a text follows an instruction.

    Args:
        name: Name of the instruction, such as `length_constraints:number_words`.
        arguments: Arguments of the instruction; an argument that is None counts as absent.

    Raises:
        KeyError: The instruction, or the language that it asks for, is unknown.
        AttributeError, TypeError, ValueError: The arguments are wrong.
    """
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    given = {key: value for key, value in arguments.items() if value is not None}
    if name == "language:response_language" and given.keys() == {"language"} and given["language"] in CHINESE:
        return partial(_is_in, CHINESE[given["language"]])
    instruction = INSTRUCTION_DICT[name](name)
    instruction.build_description(**given)
    return partial(_CHECKS.get(name, _follows), instruction)


def num_words(text: str) -> int:
    """Return the number of words of a Chinese or Japanese text.

    Each character of these languages and of Korean counts, and each emoji; so does other text between spaces
    and such characters. Most punctuation, of either width, is deleted before.
    """
    import emoji

    text = text.translate(_IGNORED)
    num_emojis: int = emoji.emoji_count(text)
    others, num_characters = _CHARACTER.subn(" ", emoji.replace_emoji(text, ""))
    return num_characters + len(others.split()) + num_emojis


def num_sentences(text: str) -> int:
    """Return the number of sentences of a Chinese or Japanese text.

    They end with a line, or with a full stop, a question mark or an exclamation mark of either width.
    """
    return sum(len(_SENTENCE.findall(line.strip())) for line in text.splitlines())


def num_hindi_sentences(text: str) -> int:
    """Return the number of sentences of a Hindi text, which end with a danda or the mark ! or ?."""
    return sum(bool(sentence.strip()) for sentence in re.split("(?<=[।!?])", text))


def _variants(text: str) -> Iterator[str]:
    """Yield a text, it without its first line, its last line and both, and all of these without asterisks."""
    lines = text.split("\n")
    for variant in (text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))):
        yield variant
        yield variant.replace("*", "")


@lru_cache(maxsize=64)
def _language(text: str) -> str:
    """Return the language that langdetect finds in a text, such as `zh-cn`; empty: it finds none."""
    import langdetect

    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return ""


def _is_in(languages: tuple[str, ...], text: str) -> bool:
    """Return whether a text is in one of the languages; a text without a language is, as in IFEval."""
    return _language(text) in ("", *languages)


def _follows(instruction: Any, text: str) -> bool:
    """Return whether a text follows an instruction by the checker of lm-evaluation-harness."""
    return bool(instruction.check_following(text))


def _has_number(
    counters: Mapping[str, Callable[[str], int]], argument: str, instruction: Any, text: str
) -> bool:
    """Return whether a text has the number of words or sentences that an instruction asks for.

    Args:
        counters: Language -> function that counts; other languages are counted by the harness's checker.
        argument: Name of the instruction's argument with the number.
        instruction: Checker of the harness.
        text: The text.
    """
    language = _language(text)
    if language == "th":
        return False
    if language not in counters:
        return _follows(instruction, text)
    arguments = instruction.get_instruction_args()
    number = counters[language](text)
    if arguments["relation"] == "less than":
        return bool(number < arguments[argument])
    return bool(number >= arguments[argument])


def _is_quoted(instruction: Any, text: str) -> bool:
    """Return whether a text begins and ends with a pair of quotation marks: "", “” or 「」."""
    stripped = text.strip()
    return len(stripped) > 1 and stripped[0] + stripped[-1] in _QUOTATION_MARKS


def _has_keyword(instruction: Any, text: str) -> bool:
    """Return whether a text has a keyword as often as asked; never with a keyword that is a wrong pattern."""
    try:
        return _follows(instruction, text)
    except re.error:
        return False


_WORDS = dict.fromkeys(("zh-cn", "zh-tw", "ja"), num_words)
_SENTENCES = {**dict.fromkeys(("zh-cn", "zh-tw", "ja"), num_sentences), "hi": num_hindi_sentences}
_CHECKS: dict[str, Callable[[Any, str], bool]] = {
    "length_constraints:number_words": partial(_has_number, _WORDS, "num_words"),
    "length_constraints:number_sentences": partial(_has_number, _SENTENCES, "num_sentences"),
    "startend:quotation": _is_quoted,
    "keywords:frequency": _has_keyword,
}
"""Instruction that Multi-IF checks in another way than lm-evaluation-harness -> its check."""
