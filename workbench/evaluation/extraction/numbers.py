"""Extracts the number that a generated text states as its answer, Chinese or English."""

import re
from collections.abc import Iterator

from workbench.evaluation.extraction import cleaning, marks, quantities
from workbench.evaluation.extraction.quantities import Quantity

_OPEN = r"[\s\"'“”‘’(\[【<{:=>~*_`$¥€£₩₹≈" + cleaning.BOX_START + cleaning.BOX_END + "]"
_FILLER = re.compile(
    rf"(?:{_OPEN}|\b(?:about|approximately|roughly|exactly|around|nearly|only|just|"
    r"a total of|equal to|equals|usd|rmb|us|hk|therefore|thus)\b"
    r"|大约|大概|约为?|等于|一共是?|总共是?|共|为|是|就是|[A-Za-z]\s?=(?!=)){0,12}",
    re.I,
)
_LOOSE = re.compile(r"[^0-9\n。;.!?,]{1,60}")
_NO_STATEMENT = re.compile(
    r"\b(?:not|no|unknown|unclear|because|since|from|in|on|see|page|step|by|at)\b|n't|[不没无第见从在]|因为|由于",
    re.I,
)
_NOT_BEFORE = re.compile(rf"(?:\bnot|n't|不是|并非|而非|不等于|≠){_OPEN}{{0,3}}$", re.I)
_TERMS = r"(?:[\s0-9.+\-*/×÷()^%a-z]|,(?=[0-9]{3})){0,80}"
_EQUATION = re.compile(
    rf"\s?[a-z%]{{0,12}}\s?(?:[+\-*/×÷^]{_TERMS}|x\s?[0-9]{_TERMS})?=(?:{_TERMS}=){{0,12}}\s?", re.I
)
_OPERATOR = re.compile(r"\s?[a-z%]{0,12}\s?[+\-*/×÷^]\s?[0-9(]", re.I)
_RANGE = re.compile(r":(?=[0-9])|\s?(?:到|至|~|-|—|to\b)\s?(?=-?\s?[0-9零一二两三四五六七八九十百千])")
_UNIT_WORD = r"\s?[^\W\d]{0,12}"
_OR = re.compile(rf"{_UNIT_WORD}?\s{{0,2}}(?:或者?|\bor\b)\s{{0,2}}", re.I)
_AND = re.compile(r"\s?[\u4e00-\u9fff]{0,2}?\s?(?:和|与|、|\band\b)\s{0,2}", re.I)
_END = re.compile(r"\s?[\u4e00-\u9fff]{0,4}\s?(?:$|[.。,;!?\n)])")
_TERM = r"[(]?-?(?:[0-9][0-9.,]*|\.[0-9]+)%?\)?(?:[ ]?[a-z]{1,12})?"
_UNFINISHED = re.compile(
    rf"(?<![0-9.,*])(?P<first>{_TERM})"
    rf"(?:(?:[ ]?[+\-*/×÷^][ ]?{_TERM}){{1,20}}[ ]?[+\-*/×÷^=]|[ ][+*/×÷=]|[×÷=])[ ]?[(]?$",
    re.I,
)
"""Expression at the end of a text that ends with an operator; not the star of `*18*`, the dash of `18 -`."""
_LONGEST_EXPRESSION = 200
_BOLD = re.compile(r"\*\*([^*\n]{1,40})\*\*|__([^_\n]{1,40})__")
_UNIT = re.compile(r"(?![.)、:])[^0-9:]{0,24}")

_SHORT_UNIT = re.compile(r"[ \t*_`]{0,8}[^\W0-9]{0,2}[\s.。!*_`]*")

_MEASURES = frozenset(
    "个個只隻条條张張本颗顆块塊元圆分秒米厘克千公斤吨升天日月年时時周週岁歲名人位次倍件双雙枚台辆輛层層套页頁杯瓶箱袋盒"
    "包支枝把棵朵头頭匹间間座户戶家组組排行列道题題度点點站场場门門篇首句字根粒滴串架艘节節课回趟遍段幅所成"
)
_NO_NUMERAL = re.compile("一[样种些定切致直般旦起边面方]|十分(?=[^\\W0-9])|两者|千万不|万一")


def number(text: str) -> str | None:
    """Return the number that a text states as its answer in a normal form (`-1234.5`, `3/4`), or None.

    The rules are tried in this order, and the last match of a rule counts: a final answer (`####`, a box,
    `最终答案`); an announced answer (`答案是`, `the answer is`), or the result of its equation; a number in
    bold; without an announcement, the last number of the text, as users of GSM8K expect. Announced ranges
    and alternatives (`10到20`, `2 or 3`) are not a number, nor are the operands of an unfinished expression
    at the end (`300 / 100 *`, `9 * 2 =`). Signs, fractions, thousands, 万 and million, scientific notation
    and Chinese numerals are read. Units, currencies and percent signs are ignored: 20% is 20. Thoughts and
    invented next questions are not read.
    """
    quantity = stated(text)
    return None if quantity is None else quantity.text


def stated(text: str) -> Quantity | None:
    """Return the number that a text states as its answer, by the rules of `number`.

    Its position is in the plain text that `cleaning` makes of the text. None: the text states no number, or a
    range, alternatives or an unfinished expression.
    """
    for section in cleaning.parts(text):
        candidates = _candidates(cleaning.normalized(section))
        for candidate in candidates:
            return None if isinstance(candidate, _Several) else candidate
    return None


def only(text: str) -> Quantity | None:
    """Return the number that a benchmark's target announces as the answer, or else its only number.

    Its position is in the plain text that `cleaning.normalized` makes of the target. None: the target has no
    number, or several that could be the answer.
    """
    text = cleaning.normalized(text)
    for rule in (_final, _announced, _alone):
        candidate = rule(text)
        if candidate is not None:
            return None if isinstance(candidate, _Several) else candidate
    numbers = list(quantities.all_in(text))
    return numbers[0] if len(numbers) == 1 else None


class _Several:
    """Returned instead of a number for an announced range, alternatives, or an unfinished expression."""


def _complete_length(text: str) -> int:
    """Return the length of the text without an unfinished expression at its end, such as `300 / 100 *`.

    A number after an equals sign is a result, which stays: `9 * 2 = 18 +` is cut after 18.
    """
    length = len(text.rstrip())
    offset = max(0, length - _LONGEST_EXPRESSION)
    match = _UNFINISHED.search(text, offset, length)
    if match is None:
        return len(text)
    return match.end("first") if text[: match.start()].rstrip().endswith("=") else match.start()


def _candidates(text: str) -> Iterator[Quantity | _Several]:
    """Yield the stated number by each rule that matches, the strongest rule first."""
    for rule in (_final, _announced, _loosely_announced, _bold, _last):
        candidate = rule(text)
        if candidate is not None:
            yield candidate


def _final(text: str) -> Quantity | _Several | None:
    first = re.search("####[^\n]*", text)
    return _last_after(text[: first.end()] if first else text, marks.FINAL, re.compile(cleaning.BOX_START))


def _announced(text: str) -> Quantity | _Several | None:
    return _last_after(text, marks.ANSWER, re.compile("答案"))


def _last_after(text: str, *patterns: "re.Pattern[str]") -> Quantity | _Several | None:
    """Return the number after the last mark (such as `the answer is`) that is directly before a number."""
    ends = sorted({match.end() for pattern in patterns for match in pattern.finditer(text)}, reverse=True)
    for end in ends:
        candidate = _after(text, end)
        if candidate is not None:
            return candidate
    return None


def _after(text: str, mark_end: int) -> Quantity | _Several | None:
    """Return the number directly after a mark (such as `the answer is`) that ends at `mark_end`."""
    filler = _FILLER.match(text, mark_end)
    start = filler.end() if filler else mark_end
    if text.startswith("±", start):
        return _Several()
    quantity = quantities.read(text, start, spaced=True, words=True)
    if quantity is None or not (quantity.has_digits or _is_numeral(text, quantity)):
        return None
    return _result(text, quantity)


def _result(text: str, quantity: Quantity) -> Quantity | _Several:
    """Return the given number; if an equation starts with the number, the equation's result.

    Return `_Several` for a range, for alternatives, and for an unfinished expression.
    """
    equation = _EQUATION.match(text, quantity.end)
    if equation:
        filler = _FILLER.match(text, equation.end())
        result = quantities.read(text, filler.end() if filler else equation.end(), spaced=True)
        if result is not None and not _OPERATOR.match(text, result.end):
            return result
    if quantity.end > _complete_length(text):
        return _Several()
    if _RANGE.match(text, quantity.end):
        return _Several()
    return _Several() if _is_one_of_several(text, quantity) else quantity


def _is_one_of_several(text: str, quantity: Quantity) -> bool:
    """Return whether another number follows, as an alternative (`2或3`) or as an addition (`2 and 3.`)."""
    alternative = _OR.match(text, quantity.end)
    if alternative and quantities.read(text, alternative.end()):
        return True
    addition = _AND.match(text, quantity.end)
    other = quantities.read(text, addition.end()) if addition else None
    return other is not None and _END.match(text, other.end) is not None


def _is_numeral(text: str, quantity: Quantity) -> bool:
    """Return whether Chinese numerals are a number and not part of a word such as 一样, 四川."""
    if _NO_NUMERAL.match(text, quantity.start):
        return False
    if text[quantity.start].isascii():
        return True
    following = text[quantity.end : quantity.end + 1]
    return (
        quantity.end - quantity.start > 1
        or not following
        or following in _MEASURES
        or re.match(r"[\W_]", following) is not None
    )


def _loosely_announced(text: str) -> Quantity | _Several | None:
    """Return the first number in the clause after a mark, as in `The answer is that she makes 18 dollars`."""
    ends = [match.end() for pattern in (marks.FINAL, marks.ANSWER) for match in pattern.finditer(text)]
    for end in sorted(ends, reverse=True):
        words = _LOOSE.match(text, end)
        if words and not _NO_STATEMENT.search(words[0]):
            quantity = quantities.read(text, words.end())
            if quantity is not None:
                return _result(text, quantity)
    return None


def _bold(text: str) -> Quantity | None:
    """Return the last number in bold, as in `**18 apples**`.

    Bold text that is more than a number and a unit is skipped.
    """
    for match in reversed(list(_BOLD.finditer(text))):
        start = match.start(match.lastindex or 0)
        quantity = quantities.read(text, start, spaced=True)
        if quantity is None or not quantity.has_digits:
            continue
        if _UNIT.fullmatch(text, quantity.end, match.end(match.lastindex or 0)):
            return quantity
    return None


def _last(text: str) -> Quantity | None:
    """Return the last number written with digits; without digits, the last one in Chinese numerals.

    Operands of an unfinished expression at the end of the text are left out.
    """
    text = text[: _complete_length(text)]
    if (whole_text := _alone(text)) is not None:
        return whole_text
    numbers = [
        quantity
        for quantity in quantities.all_in(text)
        if not _NOT_BEFORE.search(text, max(0, quantity.start - 12), quantity.start)
    ]
    with_digits = [quantity for quantity in numbers if quantity.has_digits]
    if with_digits:
        return with_digits[-1]
    numerals = [q for q in numbers if q.end - q.start > 1 and not _NO_NUMERAL.match(text, q.start)]
    return numerals[-1] if numerals else None


def _alone(text: str) -> Quantity | None:
    """Return the number if the text is only a number and a unit of at most two characters; else None."""
    start = len(text) - len(text.lstrip(" \t\n*_`#"))
    quantity = quantities.read(text, start, spaced=True)
    if quantity is None or not (quantity.has_digits or _is_numeral(text, quantity)):
        return None
    return quantity if _SHORT_UNIT.fullmatch(text, quantity.end) else None
