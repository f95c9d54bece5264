"""Tells from a question with lettered options whether the wrong statement is asked for, or the right one."""

import re
import unicodedata

_OPTION = r"(?m)^\s{0,4}[(\[]?%s[)\]]?(?:[.、:)]|\s)"
_TAIL = 200
"""Number of characters before the options that are read."""
_KIND = r"(?:的|一?[个项组句]|选项|[说作做]法|叙述|[描表论陈]述|观点|内容|理解|判断|答案){0,4}"
_END = (
    rf"{_KIND}(?:哪?些?的?(?:[是为有]|包括|属于)?(?:哪一?[些个项组句])?(?:选项|说法|[叙描表论陈]述)?)"
    r"[\s()_:?。.]{0,12}\Z"
)
_WRONG_ZH = re.compile(
    r"(?:错误|有误|[不欠][太够]?(?:正确|对|恰当|准确|妥当?|合理|真实|成立|可取|科学|规范|符合[^,。]{0,12}))"
    + _END
)
_RIGHT_ZH = re.compile(r"(?:正确|恰当|准确|妥当|合理|真实|成立|无误|符合[^,。]{0,12})" + _END)
_BEFORE = r"\b(?:is|are|was|were|statements?|options?|answers?|one|which|the)\s{1,2}"
_AFTER = (
    r"(?=\s{1,2}(?:statements?|options?|answers?|one|about|of|in|for|with|regarding|concerning|except)\b"
    r"|[\s?:._]{0,6}\Z)"
)
_WRONG_EN = re.compile(
    rf"{_BEFORE}(?:incorrect|false|wrong|untrue|inaccurate"
    rf"|not\s{{1,2}}(?:an?\s|the\s)?(?:true|correct|right|accurate|valid)){_AFTER}",
    re.I,
)
_RIGHT_EN = re.compile(rf"{_BEFORE}(?:correct|true|right|accurate|valid){_AFTER}", re.I)


def seeks_wrong(question: str, letters: str) -> bool | None:
    """Return whether a question asks for the wrong statement (`下列说法错误的是`); None: it doesn't say.

    Args:
        question: text of the question with its options, one a line, as the prompt has it.
        letters: letters of the choices.
    """
    plain = unicodedata.normalize("NFKC", question)
    options = re.search(_OPTION % letters[:1], plain) if letters else None
    if options is None:
        return None
    stem = plain[max(0, options.start() - _TAIL) : options.start()].rstrip()
    for wrong, right in ((_WRONG_ZH, _RIGHT_ZH), (_WRONG_EN, _RIGHT_EN)):
        if wrong.search(stem):
            return True
        if right.search(stem):
            return False
    return None
