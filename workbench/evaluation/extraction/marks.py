"""Defines the patterns of words that announce an answer, Chinese and English, for letters and numbers.

The patterns match plain text, as `cleaning.normalized` returns it. All repetitions are bounded, so that the
time is linear in the length of the text.
"""

import re

_IS = r"(?:is|:|=|->|→|was|will be|would be|should be|must be|has to be|equals)"
_ANSWER = r"answer[\"'*_`)]{0,3}(?:\s{1,3}to\s[^.:\n]{0,60}?)?\s{0,3}" + _IS
_CHINESE_IS = r"(?:应该|应当|应|就|只能?|肯定|显然|一定|必然){0,2}\s{0,3}(?:[是为:=】\]]|选择?|等于)(?!项)"

FINAL = re.compile(
    r"####"
    r"|<answer>"
    r"|\bfinal\s{1,3}(?:answer|choice|result)[\"'*_`]{0,3}\s{0,3}(?:" + _IS + r"|\n)"
    r"|(?:最终|最后)的?(?:答案|选择|选项|结果)[\"'*_`]{0,3}\s{0,3}(?:" + _CHINESE_IS + r"|\n)?"
    r"|最终选择?(?!项)",
    re.I,
)
"""Marks of a final answer, which take precedence over all others."""

ANSWER = re.compile(
    r"\b" + _ANSWER + r"|\bans\.?\s{0,3}[:=]"
    r"|(?:^|\n)[ \t#>*_\-]{0,8}(?:the )?(?:correct )?(?:answer|答案)[ \t*_]{0,8}\n"
    r"|(?:^|\n)[ \t#>*_\-]{0,8}答[ \t*_]{0,8}:"
    r"|\b(?:correct|right|best|most \w{1,20})\s{1,3}(?:answer|option|choice|response|one|alternative|"
    r"statement|conclusion|letter)"
    r"[\"'*_`]{0,3}\s{0,3}"
    + _IS
    + r"|答案(?:选项)?[\"'*_`]{0,3}\s{0,3}"
    + _CHINESE_IS
    + r"|(?:正确|最佳|最合适|最恰当|符合题意)的?(?:选项|答案|说法|一项|选择)?[\"'*_`]{0,3}\s{0,3}"
    + _CHINESE_IS
    + r"|而是|\bnot\b[^.\n]{1,30}?\bbut\b",
    re.I,
)
"""Marks of an answer, such as `the answer is` or `答案是`."""
