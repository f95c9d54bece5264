"""Reads letters that a text names together, such as `A和B`, and detects their negation."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.evaluation.extraction import cleaning

OPEN = r"[\s\"'“”‘’「『(\[【《<{:=>~$\-—→" + cleaning.BOX_START + r"]"
_BRACKETS = r"\"'“”‘’」』)\]】》>}" + cleaning.BOX_END
CLOSE = rf"[\s{_BRACKETS}]"
REMARK = r"(?:[.、:(\[]|[-—]{1,2}\s?)?"
"""What may lie between a letter and a verdict on it."""
_LETTER = re.compile(r"([A-Za-z])(?![A-Za-z0-9+]|['’][A-Za-z]|-[A-Za-z0-9])")
_RUN = re.compile(r"[A-Z]{2,26}(?![A-Za-z0-9])")
_CONJUNCTION = re.compile(
    rf"{CLOSE}{{0,3}}(?:(,\s{{0,2}}(?:and|or|和|或)?|[ ]{{1,2}}(?=[A-Z](?![A-Za-z0-9])))"
    rf"|[、/&]|和|与|及|以及|或者?|\band\b|\bor\b){OPEN}{{0,3}}"
    r"(?:(?:option|choice|选项)\s{0,2})?",
    re.I,
)
_AFTER_LIST = re.compile(
    rf"\s{{0,2}}(?:$|[.。;!\n,、{_BRACKETS}]|and\b|or\b|和|或"
    r"|[ ][A-Z](?![A-Za-z0-9])|[都均皆全]|[两三四]?项)"
)
_LOWER_CASE_END = re.compile(rf"{CLOSE}{{0,3}}(?:$|[.。,、;:!?\n])|[{_BRACKETS}]")

_WORD_AFTER = re.compile(r"[ \t]+([a-z]+)")
_NO_ARTICLE = frozenset(
    ["because", "since", "as", "for", "due", "and", "or", "but", "which", "that", "is", "was", "not", "given"]
    + ["so", "while", "rather", "instead", "if", "with", "in", "by", "from", "at", "on", "seems", "looks"]
    + ["has", "should", "must", "would", "can", "cannot", "isn", "wasn", "are", "were"]
)
_TWO = re.compile(r"(?<![A-Za-z])II(?![A-Za-z])")
_NUMBERED = re.compile(r"\b(?:statement|premise|figure|part|type|case)\s$|(?:陈述|命题|语句)\s?$", re.I)
_NO_PRONOUN = frozenset(["because", "since", "as", "for", "due", "and", "or", "but", "which", "rather", "is"])

_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|except|excluding|exclude[sd]?|eliminat(?:e|es|ed|ing)|"
    r"rul(?:e|es|ed|ing) out|rather than|instead of|other than|unlike|avoid)|n't(?: be)?|\bnot be"
    r"|不是|并非|而非|非|不选择?|别选|排除[了掉]?|除了?|误选|错选|不含|不包括)"
    rf"{OPEN}{{0,3}}(?:(?:the\s|an?\s)?(?:option|choice|letter|answer|选项|答案)s?\s{{0,2}})?{OPEN}{{0,3}}$",
    re.I,
)
_OF_OTHERS = (
    r"(?![^\w×✗❌✓✔√✅]{0,6}\n"
    r"(?!\W{0,3}(?:错误?|不对|不正确|wrong|incorrect|false)[^\w\ue002]{0,3}(?:\n|$)(?![\s#>•-]{0,6}\ue002)))"
    r"(?!\W{0,6}(?:错误|(?:wrong|incorrect|false)\s)的?(?:选项|答案|(?:answer|option|choice)s?)"
    r"\s?(?:[:是为]|are\b|is\b))"
)
"""Lookaheads that fail if `wrong` refers to letters further on: at the end of a line (unless the next line
only says `错误`), and before a heading such as `错误选项：`."""
WRONG_AFTER = re.compile(
    rf"{_OF_OTHERS}(?:{CLOSE}{{0,3}}{REMARK}\s{{0,2}}(?:[两三四]?(?:选?项|者))?(?:的?(?:说法|表述|描述|观点|答案))?"
    r"(?:明显|显然|是|均|都|也|就|并|皆|全|则|的|本身){0,4}"
    r"(?:错|不对|不正确|不符|不合|不成立|不能|不可|不属|不妥|不当|有误|误|排除|可排除|可以排除|被排除|无关|×|✗|❌|"
    r"可能性?(?:不大|不高|[很较极]?[小低])|不(?:选|是)(?!\s{0,2}[A-Za-z（(]))"
    rf"|{CLOSE}{{0,3}}{REMARK}\s{{0,2}}(?:(?:is|are|was|were|would be|seems?|looks?)\s{{1,2}})?"
    r"(?:(?:both|all|clearly|also|obviously|therefore|thus|simply)\s{1,2}){0,3}"
    r"(?:wrong|incorrect|false|invalid|ruled out|eliminated|excluded|cannot|can't|can not|fails)\b"
    rf"|{CLOSE}{{0,3}}\s{{0,2}}(?:is|are|was|were|would|does|do|can|could|should)"
    r"(?:\s{1,2}not\b(?! only)|n't\b))",
    re.I,
)
_ENCLOSED = re.compile(r"[(\[【]\s?([A-Z])\s?[)\]】]")
_QUESTION_AFTER = re.compile(rf"{CLOSE}{{0,3}}(?:吗|呢|\?)")


@dataclass(frozen=True)
class Group:
    """Letters that a text names together, such as `A和B`, with their position."""

    letters: frozenset[str]
    start: int
    end: int


def group_at(text: str, start: int, letters: str) -> Group | None:
    """Return the choice letters that a text names together from `start` on; None if it names none there.

    Letters that are called wrong or asked about (`A?`) are left out.
    """
    names = _names(text, start, letters)
    if not names:
        return None
    end = start + 1
    clauses: list[set[str]] = [set()]
    for position, name, after_comma in names:
        if after_comma:
            clauses.append(set())
        clauses[-1] |= set(name)
        end = position + len(name)
    if WRONG_AFTER.match(text, end) or _QUESTION_AFTER.match(text, end):
        clauses.pop()
    stated = frozenset().union(*clauses)
    return Group(stated, start, end) if stated else None


def groups_called_wrong(text: str, letters: str) -> Iterator[Group]:
    """Yield the letters that a text calls wrong, as in `B不正确`; of `A正确，B错误` only B."""
    end = 0
    for match in re.finditer(r"(?<![A-Za-z0-9])[A-Z]", text):
        names = _names(text, match.start(), letters) if match.start() >= end else []
        if not names:
            continue
        end = names[-1][0] + len(names[-1][1])
        last_comma = max((index for index, (_, _, after_comma) in enumerate(names) if after_comma), default=0)
        if WRONG_AFTER.match(text, end) and not is_negated_before(text, names[0][0]):
            clause = names[last_comma:]
            yield Group(frozenset().union(*(set(name) for _, name, _ in clause)), clause[0][0], end)


def _names(text: str, start: int, letters: str) -> list[tuple[int, str, bool]]:
    """Return the letters, or runs such as `BD`, that a text names together from `start` on, as in `A和B`.

    Each comes with its position and whether a comma precedes it.
    """
    names: list[tuple[int, str, bool]] = []
    position, after_comma = start, False
    while len(names) < 26 and (name := _name(text, position, letters)) is not None:
        end = position + len(name)
        if after_comma and not (_AFTER_LIST.match(text, end) or WRONG_AFTER.match(text, end)):
            break
        if names and text[position].islower():
            break
        names.append((position, name.upper(), after_comma))
        conjunction = _CONJUNCTION.match(text, end)
        if conjunction is None:
            break
        position, after_comma = conjunction.end(), conjunction[1] is not None
    return names


def _name(text: str, position: int, letters: str) -> str | None:
    """Return the choice letter (`B`), or run of letters (`BD`), at a position; None for any other text."""
    run = _RUN.match(text, position)
    if run and set(run[0]) <= set(letters) and len(set(run[0])) == len(run[0]):
        return run[0]
    match = _LETTER.match(text, position)
    if match is None or match[1].upper() not in letters:
        return None
    if match[1].islower():
        return match[1] if _LOWER_CASE_END.match(text, match.end()) else None
    return None if _is_word(text, match) else match[1]


def _is_word(text: str, letter: "re.Match[str]") -> bool:
    """Return whether a letter is an English word, the article A or the pronoun I, or a Roman numeral I."""
    word = _WORD_AFTER.match(text, letter.end())
    if letter[1] == "I" and (_TWO.search(text) or _NUMBERED.search(text, 0, letter.start())):
        return True
    words_after_letter = {"A": _NO_ARTICLE, "I": _NO_PRONOUN}.get(letter[1])
    return words_after_letter is not None and word is not None and word[1] not in words_after_letter


def is_negated_before(text: str, position: int) -> bool:
    """Return whether the words before a position negate the letter at it, as in `not B` and `排除B`."""
    return _NOT_BEFORE.search(text, max(0, position - 40), position) is not None


def only_enclosed(text: str, letters: str) -> frozenset[str]:
    """Return the letter in brackets that isn't called wrong; an empty set if there is none, or several."""
    enclosed = {
        match[1]
        for match in _ENCLOSED.finditer(text)
        if match[1] in letters
        and not is_negated_before(text, match.start())
        and not WRONG_AFTER.match(text, match.end())
    }
    return frozenset(enclosed) if len(enclosed) == 1 else frozenset()
