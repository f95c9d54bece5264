"""Finds the options that a generated text quotes from its question, `B. Paris`, and leaves their letters."""

import re
from dataclasses import dataclass

LIST = "\ue002"
"""Stands for a list of options that a text repeats."""
_OPENING = "(\"“”‘’'「『"
_LABEL = re.compile(
    r"(?<![A-Za-z0-9])(?P<open>[(\[【]?)(?P<letter>[A-Z])"
    rf"(?=(?P<apart>[)\]】]?[ \t]{{0,3}}(?:[.、:,)]|-(?=\s))?[\s{_OPENING}]{{0,4}}))"
)
_ENDS = ".。;,、"
"""Characters at the end of an option that a text may leave out."""
_CLOSING = re.compile("[)\"”’'」』]{0,2}")
_WORD_GOES_ON = re.compile(r"[^\W\u4e00-\u9fff]|[.,]\d")
_IDEOGRAPHS_GO_ON = re.compile(
    r"(?!是|为|才|最|正确|错误|不|符合|属|对|和|与|及|或|[均都也则皆全在中这那并就仅只又还而但故]|所以|因)\w"
)
_BETWEEN = r"(?:[\s,.。;、|/>#•-]|选项|[Oo]ption|[Cc]hoice){0,20}"
"""What may lie between the options of a list."""
_LINE_END = r"[ \t.。;,、|]{0,9}\n"
_ANNOUNCEMENT = (
    r"(?:answer|答案|故选|应选|选择?|\b(?:choose|pick|select|go with|say))"
    r"(?: is| was|应该?|应当)?[ \t]?[是为:]?"
)
"""Words that announce an answer: the option after them begins no list."""
_WORD_AFTER = re.compile(
    r"[ \t]{0,3}(?!和|与|及|或|(?:and|or|don't|doesn't|isn't|aren't|cannot|can't|wasn't|won't)\b"
    r"|(?:do|does|did|is|are|was|were|can|could|should|would)\snot\b)\w"
)
_JOINING = re.compile(r"\s?(?:[和与及、,]|,? and|,? or)\s?")
_REMARK_AFTER = re.compile(r"[ \t]{0,3}(?:\w|[:(=—-])")


@dataclass(frozen=True)
class Quote:
    """An option in a text, with its letter."""

    letter: str
    is_bracketed: bool
    """Whether the letter is in brackets."""
    start: int
    end: int
    is_remarked: bool
    """Whether words follow, as in `B. Paris is in France` and `B. Paris: wrong`."""


def without_quotes(text: str, letters: str, options: tuple[str, ...], several: bool) -> str:
    """Return a plain text with the letter of each quoted option in place of the option.

    Options that follow each other with nothing between them are a list, repeated from the question; LIST
    takes its place, and that of the options among them in other words. With `several`, a list of some options
    is kept as their letters, `A、C`.

    Args:
        text: plain text.
        letters: letters of the choices.
        options: plain texts of the options, as `options_of` returns them.
        several: whether the answer may be several letters.
    """
    runs = _runs(text, _quotes(text, letters, options), letters, len(options))
    limits = [*(run[0].start for run in runs), len(text)][1:]
    pieces, copied = [], 0
    for run, limit in zip(runs, limits, strict=True):
        start, end = run[0].start, run[-1].end
        if len(run) == 1:
            replacement = _letter_alone(text, run[0], text[copied:start])
        else:
            start, end = _with_other_options(text, run, letters, copied, limit)
            is_answer = several and len(run) < len(options) and (start, end) == (run[0].start, run[-1].end)
            replacement = "、".join(quote.letter for quote in run) if is_answer else f"{LIST}\n"
            if not several and len(run) < len(options) and _is_announced(text, start, r"\s{0,3}"):
                replacement = f"{run[0].letter}\n{LIST}\n"
        pieces += [text[copied:start], replacement]
        copied = end
    return "".join([*pieces, text[copied:]])


def _letter_alone(text: str, quote: Quote, before: str) -> str:
    """Return what takes an option's place: `(B)`, `B`, or `B.` at the beginning of a sentence.

    Args:
        text: plain text.
        quote: the option.
        before: text between the option before and this one.
    """
    if quote.is_bracketed:
        return f"({quote.letter})"
    is_subject = _WORD_AFTER.match(text, quote.end) and not _JOINING.fullmatch(before)
    return quote.letter + ("." if is_subject else "")


def _quotes(text: str, letters: str, options: tuple[str, ...]) -> list[Quote]:
    """Return the options that a plain text quotes with their letters, in order."""
    option_of = dict(zip(letters, options, strict=False))
    quoted: list[tuple[re.Match[str], int]] = []
    for label in _LABEL.finditer(text):
        if quoted and label.start() < quoted[-1][1]:
            continue  # a letter within an option, as in `C. Both A and B`
        end = _end_of_option(text, label.end("apart"), option_of.get(label["letter"], ""))
        if end is not None and not _is_article(text, label, end):
            quoted.append((label, end))
    starts = {label.start() for label, _ in quoted}
    quotes = []
    for label, end in quoted:
        remark = _REMARK_AFTER.match(text, end)
        is_remarked = remark is not None and remark.end() - 1 not in starts
        quotes.append(Quote(label["letter"], bool(label["open"]), label.start(), end, is_remarked))
    return quotes


def _is_article(text: str, label: "re.Match[str]", end: int) -> bool:
    """Return whether an option's letter is an English word, as in `A ruler` and `A Roman road was`."""
    is_word = label["letter"] in "AI" and label["apart"].isspace()
    start = label.end("apart")
    return is_word and (text[start].islower() or re.match(r" [a-z]", text[end : end + 2]) is not None)


def _end_of_option(text: str, start: int, option: str) -> int | None:
    """Return where an option ends that starts at `start`, in any case and spacing; None: it doesn't."""
    words = "".join(option.lower().split()).lstrip(_OPENING).rstrip(_ENDS)
    if not words or (words[0].isascii() and words[0].isalnum() and text[start - 1].isalnum()):
        return None
    end = start
    for character in words:
        while text[end : end + 1].isspace():
            end += 1
        if text[end : end + 1].lower() != character:
            return None
        end += 1
    if (_IDEOGRAPHS_GO_ON if words[-1] > "\u4e00" else _WORD_GOES_ON).match(text, end):
        return None
    if option[-1] in _ENDS and text[end : end + 1] == option[-1]:
        end += 1
    closing = _CLOSING.match(text, end)
    return closing.end() if closing else end


def _runs(text: str, quotes: list[Quote], letters: str, num_options: int) -> list[list[Quote]]:
    """Return the quotes with those together that are one list.

    A list has all options in any order, or some in the order of their letters.
    """
    runs: list[list[Quote]] = []
    for row in _adjacent(text, quotes, letters):
        names = "".join(quote.letter for quote in row)
        starts = [n for n in range(len(row)) if len(set(names[n : n + num_options])) == num_options]
        if starts:
            start = next((n for n in starts if names.startswith(letters[:num_options], n)), starts[0])
            end = start + num_options
            runs += [*_ascending(row[:start]), row[start:end], *_ascending(row[end:])]
        else:
            runs += _ascending(row)
    return runs


def _adjacent(text: str, quotes: list[Quote], letters: str) -> list[list[Quote]]:
    """Return the quotes with those together that have nothing between them but options in other words."""
    rows: list[list[Quote]] = []
    for quote in quotes:
        before = rows[-1][-1] if rows else None
        if before is not None and not (before.is_remarked or quote.is_remarked):
            between = _lines_of(letters[letters.index(before.letter) + 1 : letters.index(quote.letter)])
            gap = text[before.end : quote.start]
            space = "[ \t]?" if quote.letter > before.letter else r"\s{0,3}"
            is_answer = "\n" in gap and _is_announced(text, before.start, space)
            if not is_answer and re.fullmatch(rf"{_BETWEEN}|{_LINE_END}{_BETWEEN}{between}", gap):
                rows[-1].append(quote)
                continue
        rows.append([quote])
    return rows


def _is_announced(text: str, position: int, space: str) -> bool:
    """Return whether words before a position announce an answer, such as `答案是`: no list begins there.

    Args:
        text: plain text.
        position: index in `text`.
        space: pattern of the white space between the words and the position.
    """
    return (
        re.search(rf"{_ANNOUNCEMENT}{space}[\"“(]?\Z", text[max(0, position - 20) : position], re.I)
        is not None
    )


def _ascending(quotes: list[Quote]) -> list[list[Quote]]:
    """Return the quotes in groups, each in the order of its letters."""
    groups: list[list[Quote]] = []
    for quote in quotes:
        if groups and groups[-1][-1].letter < quote.letter:
            groups[-1].append(quote)
        else:
            groups.append([quote])
    return groups


def _with_other_options(text: str, run: list[Quote], letters: str, least: int, limit: int) -> tuple[int, int]:
    """Return start and end of a list, with the options before and after it that it has in other words.

    Start and end lie between `least` and `limit`.
    """
    first, last = letters.index(run[0].letter), letters.index(run[-1].letter)
    start, end = run[0].start, run[-1].end
    if first:
        before = re.search(rf"(?m:^)[ \t#>-]*{_lines_of(letters[:first])}\Z", text[least:start])
        start = least + before.start() if before else start
    if last + 1 < len(letters):
        after = re.match(_LINE_END + _BETWEEN + _lines_of(letters[last + 1 :]), text[end:limit])
        end += len(after[0].rstrip()) if after else 0
    return start, end


def _lines_of(letters: str) -> str:
    """Return a pattern of lines that begin with these letters, some or all of them, in order."""
    line = rf"(?:[(\[]?%s[)\]]?[.、:)][^\n]{{1,400}}(?:\n|\Z){_BETWEEN})?"
    return "".join(line % letter for letter in letters)
