"""Extracts the choice letter that a generated text states as its answer, Chinese or English."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from workbench.evaluation.extraction import cleaning, marks
from workbench.evaluation.extraction.letter_groups import (
    CLOSE,
    OPEN,
    REMARK,
    Group,
    group_at,
    groups_called_wrong,
    is_negated_before,
    only_enclosed,
)
from workbench.evaluation.extraction.question_options import plain
from workbench.evaluation.extraction.quoted_options import LIST, without_quotes
from workbench.evaluation.extraction.restated_options import is_restated, option_lists

_FILLER = re.compile(
    rf"(?:{OPEN}|option|choice|letter|answer|statement|选项|选择|definitely|clearly|probably|likely|most|certainly|"
    r"surely|simply|therefore|thus|obviously|still|also|indeed|really|actually|just|the\b){0,12}",
    re.I,
)
_NOT_CHOSEN = re.compile(
    r"(?:wrong|incorrect|false)\s{1,2}$|错误的?$|(?:\bnot|\bnever|n't|\bavoid|\bcannot)\s{1,2}(?:to\s)?$"
    r"|(?:[不没别勿未莫误错]|没有|不[能会要应可]|不应该|不应当|不可以|不可能|无法|容易|很多人|有人会?|你可能会?)$",
    re.I,
)
_SUPPOSED = re.compile(
    r"(?:假设|假定|假如|如果|倘若|要是|若)(?:说|是|我们|你|正确|最终|最后|的|本题|此题|答案|选项){0,4}$"
    r"|\b(?:suppose|supposing|assume|assuming|if)\s{1,2}(?:that\s)?(?:the\s)?(?:(?:correct|right|final)\s)?(?:(?:answer|option|choice)\s)?$",
    re.I,
)
"""Words before a mark that make it a supposition, as in `if the answer is A`."""
_ALSO = re.compile(r"(?:也|还|又)(?:很|有)?$|\b(?:it|or|and|but)\s(?:could|might|may)\salso\s$", re.I)
_RETRACTED = re.compile(
    r"(?:^|(?<=[。.,;!?\n\s…]))(?:不对|不是|等等|等一下|(?:但是?|不过)?(?:让我|我)?(?:再|重新)(?:仔细)?(?:想想|想一想|考虑|检查))"
    r"(?=[一下]{0,2}[,。.!?:\s…])|\b(?:wait|hmm+|hold on|scratch that|on second thought)\b(?=\s?[,.:!…-])",
    re.I,
)
"""Words that take back what a text has stated before them."""
_RIGHT_AFTER = re.compile(
    rf"{CLOSE}{{0,3}}{REMARK}\s{{0,2}}(?:[两三四]?(?:选?项|者))?[,:]?(?:的?(?:说法|表述|描述|观点))?"
    r"(?:是|为|才|最|均|都|也|就|完全){0,4}"
    r"(?:正确|对(?=[。,.;!\s]|的|$)|符合|合适|恰当|答案|✓|✔|√|✅)"
    rf"|{CLOSE}{{0,3}}{REMARK}\s{{0,2}}(?:(?:is|are|seems?|looks?|must be|would be)\s{{1,2}})?"
    r"(?:(?:both|all|the|clearly|definitely|most|also|only|therefore|thus)\s{1,2}){0,3}"
    r"(?:correct|right|best|answers?|true|accurate|appropriate|what I|the one)\b",
    re.I,
)

_CHOSEN = re.compile(
    r"(?:故|应该|应当|应|当|因此|所以|综上|因而|可知|可得|从而|本题|此题|该题|则|只能|于是)"
    r"[,\s]{0,2}(?:本题|此题|正确答案|答案)?\s{0,2}(?:应该|应当|应|可以)?\s{0,2}(?:选择?(?!项)|为)"
    r"|(?:正确|符合题意)的?(?:选项|答案|说法|表述)?有(?=[\s:A-Z])|结论\s{0,2}:|[\"'](?:选项|选择|option|choice)[\"']\s{0,2}:"
    r"|\b(?:answers|options|choices|statements)\s{1,2}are\b"
)
"""Words that conclude with a choice: they announce an answer like `答案是`."""
_PREFERRED = re.compile(
    r"选择?(?!项)|答案"
    r"|(?:认为|觉得|我猜|应该|应当|肯定|必然|一定|就|可能|大概|当然|显然|估计)(?:会)?(?:是|为)"
    r"|\b(?:choos(?:e|ing)|chose|pick(?:ed)?|select(?:ed)?|go(?:ing)? (?:with|for)|went with|"
    r"opt(?:ed)? for|vote for|say|think|believe|guess|"
    r"it's|it is|that's|must be|should be|would be|"
    r"choice (?:is|of)|choice|(?:is|it's) (?:option|choice)|option is|answer|"
    r"lean(?:ing)? towards?|leaving|left with|definitely|probably|maybe|surely|certainly|"
    r"likely|clearly|obviously|perhaps)\b"
    r"|\b(?:solution|right|correct)\s{0,2}:|\bno,|\bonly\b|只有|只剩下?了?|剩下的?是?",
    re.I,
)
_LETTER_ENDS = rf"(?={OPEN}{{0,3}}[A-Za-z]{CLOSE}{{0,3}}(?:$|[。.,;!\n]|吧|项|选项))"
_CAPITAL_ENDS = rf"(?:\s(?:option|choice))?(?={OPEN}{{1,3}}[A-Z]{CLOSE}{{0,3}}(?:$|[.,;!\n]))"
_CONCLUDING = re.compile(
    rf"(?:[故∴]|(?:所以|因此|因而|综上(?:所述)?)[,:]?\s{{0,2}}(?:选项)?){_LETTER_ENDS}"
    rf"|\b(?:[Ss]o|[Hh]ence|[Tt]hus|[Tt]herefore),?{_CAPITAL_ENDS}"
)
_BEING = re.compile(
    rf"(?:[是为即]|对应的?(?:选项)?){_LETTER_ENDS}"
    rf"|\b(?:is|match(?:es)?|correspond(?:s|ing)? to),?{_CAPITAL_ENDS}"
)
"""`是B。` and `matches B.`: an answer if no other rule finds one."""
_CALLED_WRONG = (
    r"(?:(?:错误|有误|[不欠](?:正确|对|恰当|准确|妥当?|合理|真实|成立|符合[^,。\n]{0,8}))的?"
    r"(?:一?[个项组句]|选?项|[说做作]法|叙述|[描表论陈]述|观点|答案){0,2}(?:应该?|应当|就|只)?"
    r"|\b(?:wrong|incorrect|false|untrue|inaccurate)\s(?:statement|option|answer|choice|one)?\s?)"
)
_WRONG_BEING = re.compile(_CALLED_WRONG + rf"(?:[是为有:]|is\b)(?={OPEN}{{0,3}}[A-Za-z])", re.I)
"""`错误的是B`: an answer to a question that asks for the wrong statement."""
_FIRST = re.compile(
    rf"(?:{OPEN}|[#>]){{0,12}}(?:(?:option|choice|answer|选项|选择|答案)\s{{0,2}})?{OPEN}{{0,3}}", re.I
)
_FIRST_END = re.compile(
    rf"\s{{0,3}}(?:$|\n|[.。!:;)\]】》」』>\"”’{cleaning.BOX_END}]"
    r"|[、,](?!\s{0,2}(?:and |or |和|或)?[A-Za-z](?![A-Za-z]))"
    r"|选?项\s{0,2}(?:$|[。.,:\n])"
    r"|[-—]\s|\s[(（]|(?:because|since|as|not|rather|instead)\b|因为|由于|而不是|而非|不是|不选)"
)
_LOWER_FIRST_END = re.compile(r"\s{0,3}(?:$|\n|[.):\]】])")
_LAST_LINE = re.compile(rf"(?:{OPEN}|[#>]){{0,12}}([A-Za-z])(?:{CLOSE}|[.。]){{0,8}}")


def letter(
    text: str,
    letters: str = "ABCD",
    several: bool = False,
    seeks_wrong: bool | None = None,
    options: tuple[str, ...] = (),
) -> str | None:
    """Return the letter that a text states as its answer, or None.

    The rules are tried in this order, and the last match of a rule counts: a final answer or a box; an
    announced answer (`答案是`, `故选`, `the answer is`); a letter at the start of the text; a letter alone on
    the last line; a conclusion (`所以B`, `so B`); a preference (`选B`, `I'd go with B`); a letter called
    right (`B正确`, `B is correct`); the only letter in brackets; a letter that follows the repeated options.
    What follows words that take an answer back (`wait`, `不对`) is tried first. Letters that are negated
    (`不选A`, `A is wrong`), asked about (`A?`), supposed (`if the answer is A`), not among `letters`, or
    words (`A common misconception`) don't count, nor do those of options that the text repeats from its
    question: line by line, or, if the options are given, in any layout. A given option, quoted with its
    letter, is read as the letter alone. Thoughts and invented next questions are not read.

    A letter that a text only calls wrong (`错误的选项是A`) is an answer, after all other rules, unless the
    question asks for the right statement. Where it asks for the wrong one, `A不正确` is one, too.

    Args:
        text: text of a model.
        letters: letters of the choices.
        several: whether the answer may be several letters, returned in alphabetical order, `BD`. Otherwise a
            text that states several letters has no answer.
        seeks_wrong: whether the question asks for the wrong statement, rather than for the right one; None:
            unknown.
        options: texts of the question's options, in the order of their letters, as `options_of` returns them;
            empty: unknown.
    """
    for section in cleaning.parts(text):
        text = plain(section)
        if options:
            text = without_quotes(text, letters, options, several)
        stated = _stated(text, letters, seeks_wrong)
        if stated:
            return "".join(sorted(stated)) if several or len(stated) == 1 else None
    return None


def _stated(text: str, letters: str, seeks_wrong: bool | None) -> frozenset[str]:
    """Return the letters that a text states as its answer, by the first rule of `letter` that matches."""
    *_, retraction = None, *_RETRACTED.finditer(text)
    if retraction is not None and (restated := _restated(text[retraction.end() :], letters)):
        return restated
    rules: list[Callable[[str, str], Iterator[Group]]] = [
        lambda text, letters: _marked(text, letters, marks.FINAL, cleaning.BOX_START),
        lambda text, letters: _marked(text, letters, marks.ANSWER, _CHOSEN),
        _first,
        _last_line,
        lambda text, letters: _marked(text, letters, _CONCLUDING),
        lambda text, letters: _marked(text, letters, _PREFERRED),
    ]
    for rule in rules:
        groups = sorted(rule(text, letters), key=lambda group: group.start)
        if groups:
            return groups[-1].letters
    for rule in _LAST_RULES[seeks_wrong]:
        stated = frozenset().union(*(group.letters for group in rule(text, letters)))
        if stated:
            return stated
    return only_enclosed(text, letters) or _after_options(text, letters)


def _restated(text: str, letters: str) -> frozenset[str]:
    """Return the letters that a text announces after it took back an answer; an empty set if it doesn't."""
    for patterns in (
        (marks.FINAL, cleaning.BOX_START),
        (marks.ANSWER, _CHOSEN),
        (_CONCLUDING, _PREFERRED),
        (_BEING,),
    ):
        groups = sorted(_marked(text, letters, *patterns), key=lambda group: group.start)
        if groups:
            return groups[-1].letters
    return frozenset()


def _marked(text: str, letters: str, *patterns: "re.Pattern[str] | str") -> Iterator[Group]:
    """Yield the letters directly after each mark: a match of one of the patterns, such as `the answer is`.

    A negated mark, as in `不选`, is skipped, and so is a supposed one. An alternative (`也可能是C`) joins the
    letters before it.
    """
    for pattern in patterns:
        previous: frozenset[str] = frozenset()
        end = 0
        for mark in re.finditer(pattern, text):
            if mark.start() < end:
                continue  # a box within the letters read last, `[A], [C]`
            if _NOT_CHOSEN.search(text, max(0, mark.start() - 12), mark.start()):
                continue
            if _SUPPOSED.search(text, max(0, mark.start() - 30), mark.start()):
                continue
            filler = _FILLER.match(text, mark.end())
            group = group_at(text, filler.end() if filler else mark.end(), letters)
            if group is None or is_restated(text, letters, group.start, certainly=True):
                continue
            if not is_negated_before(text, mark.start()):
                if _ALSO.search(text, max(0, mark.start() - 16), mark.start()):
                    group = replace(group, letters=group.letters | previous)
                previous, end = group.letters, group.end
                yield group


def _being(text: str, letters: str) -> Iterator[Group]:
    """Yield the letters after `是`, as in `是B。`, but those that `_being_wrong` yields."""
    wrong = {group.start for group in _being_wrong(text, letters)}
    yield from (group for group in _marked(text, letters, _BEING) if group.start not in wrong)


def _being_wrong(text: str, letters: str) -> Iterator[Group]:
    """Yield the letters that a text names as what is wrong, as in `错误的是B`."""
    return _marked(text, letters, _WRONG_BEING)


def _first(text: str, letters: str) -> Iterator[Group]:
    """Yield the letters that the text starts with, unless the text lists all options."""
    opening = _FIRST.match(text)
    start = opening.end() if opening else 0
    group = group_at(text, start, letters)
    if group is None:
        return
    end = (_LOWER_FIRST_END if text[start].islower() else _FIRST_END).match(text, group.end)
    is_option = is_restated(text, letters, start, certainly=False)
    if end and not is_option and not _lists_options(text, text[start].upper(), letters, group.end):
        yield group


def _lists_options(text: str, first: str, letters: str, end: int) -> bool:
    """Return whether a text lists the options, as `A. ... B. ...`: then its first letter is not an answer.

    The text starts with the letter `first`, which ends at `end`.
    """
    if not letters.startswith(first) or len(letters) < 2:
        return False
    if text[end:].lstrip(" )").startswith("\n"):
        return re.search(rf"\n{letters[1]}[.:]?\n", text[end:]) is not None
    second = rf"(?:\n|[。.;]\s{{0,3}}|\s)[(\[]?{letters[1]}[)\]]?(?:[.、:)]|选?项)"
    line = rf"(?:\n[ \t>#•-]*|[。.;]\s{{0,3}})[(\[]?{letters[1]}[)\]]?\s?[-—(,;:。.✓✔√✅×✗❌]"
    return re.search(f"{second}|{line}", text[end:]) is not None


def _last_line(text: str, letters: str) -> Iterator[Group]:
    """Yield the letter that is alone on the last line."""
    before, newline, line = text.rstrip().rpartition("\n")
    match = _LAST_LINE.fullmatch(line) if newline and len(line) < 40 else None
    if match and match[1].upper() in letters:
        start = len(before) + 1 + match.start(1)
        if is_restated(text, letters, start, certainly=False):
            return
        yield Group(frozenset(match[1].upper()), start, start + 1)


def _called_right(text: str, letters: str) -> Iterator[Group]:
    """Yield the letters that the text calls right, as in `B is correct`."""
    end = 0
    for match in re.finditer(r"(?<![A-Za-z0-9])[A-Z]", text):
        group = group_at(text, match.start(), letters) if match.start() >= end else None
        if group is not None:
            end = group.end
            if _RIGHT_AFTER.match(text, group.end) and not is_negated_before(text, group.start):
                yield group


_LAST_RULES: dict[bool | None, tuple[Callable[[str, str], Iterator[Group]], ...]] = {
    True: (_being_wrong, groups_called_wrong, _called_right, _being),
    False: (_called_right, _being),
    None: (_called_right, _being_wrong, _being),
}
"""Whether the question asks for the wrong statement -> rules for texts without an announced answer."""


def _after_options(text: str, letters: str) -> frozenset[str]:
    """Return the letters with which a text goes on after it has repeated all options; else an empty set."""
    before, listed, after = text.rpartition(LIST)
    if listed and (groups := list(_first(after.lstrip("\n"), letters))):
        return groups[0].letters
    for options in reversed(option_lists(text, letters)):
        if len(options.starts) == len(letters):
            groups = list(_first(text[options.end :].lstrip("\n"), letters))
            return groups[0].letters if groups else frozenset()
    return frozenset()
