"""Splits lower-case Latin text into words as the Penn Treebank does, the segmentation of CMRC 2018's script.

Source: R. MacIntyre, tokenizer.sed (Penn Treebank, 1995), with the rules that NLTK 3's `word_tokenize` adds.
NLTK finds sentences by a model trained on English; here no abbreviation is known beforehand, as in its
untrained `PunktSentenceTokenizer`: the full stop of `st. john` is a word of its own, that of `h. mcarthur` is
not.
"""

import re

_STOP = re.compile(r"""(\S{0,100})[.?!](?=[])}"';*:@({[!?‘’“”«»]|\s)(?:[])}"']+(?=\s))?(?=\s*(\S))""")
"""A word with its stop and the marks that close after it, and the next character but a space."""
_INITIAL_OR_NUMBER = re.compile(r"""(?:.*[][(){}"';:*@?!‘’“”«»])?[&#`,-]*(?:[^\W\d_]|-?[.,]?\d[\d,.-]*)""")
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Quotation marks that open
        (r"[«‘„]", r" \g<0> "),
        (r'^"', " `` "),
        (r"""([ ([{<])(?:"|'')""", r"\1 `` "),
        (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
        # The last full stop, with the marks that close after it
        (r"""([^.])\.([])}>"'»”’ ]*)\s*$""", r"\1 . \2 "),
        # A comma or colon, except within a number
        (r"([:,])(\D|$)", r" \1 \2"),
        (r"\.{2,}|[;@#$%&?!‒-―]", r" \g<0> "),
        (r"([^'])' ", r"\1 ' "),
        (r"[][(){}<>]", r" \g<0> "),
    )
)
_CLOSING = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"»", " » "),
        (r"""''|\"""", " '' "),
        (r"\s+", " "),
        (r"([^' ])('[smd]?) ", r"\1 \2 "),
        (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
        (r"\b(?:(can)(not)|(d)('ye)|(gim|lem)(me)|(gon)(na)|(got)(ta)|(more)('n))\b", None),
        (r"\b(wan)(na)(?=\s)", None),
    )
)
"""Rules of words that end in an apostrophe; a rule without replacement separates its groups."""


def words(text: str) -> list[str]:
    """Return the words and punctuation marks of a lower-case text; `` is a quotation mark that opens."""
    return [word for sentence in _sentences(text) for word in _sentence_words(sentence)]


def _sentences(text: str) -> list[str]:
    """Split a text after each stop that ends a sentence."""
    ends = [match.end() for match in _STOP.finditer(text) if _ends_sentence(match)]
    return [text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _ends_sentence(match: re.Match[str]) -> bool:
    word, following = match[1], match[2]
    if match[0][len(word)] != "." or not _INITIAL_OR_NUMBER.fullmatch(word):
        return not word.endswith(".")
    return not (following.islower() or following in ";:,.!?")


def _sentence_words(text: str) -> list[str]:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = f" {text} "
    for pattern, end in _CLOSING:
        text = pattern.sub(_separated if end is None else end, text)
    return text.split()


def _separated(match: re.Match[str]) -> str:
    return " ".join(("", *(group for group in match.groups() if group), ""))
