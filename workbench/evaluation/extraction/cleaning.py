"""Reduces a generated text to plain text: without thoughts, invented turns, LaTeX and special characters."""

import re
import unicodedata

BOX_START = "\ue000"
"""Marks the start of a box (LaTeX's `boxed`) in a plain text."""
BOX_END = "\ue001"

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff\ue000-\ue002]")
"""Soft hyphens, zero-width characters, directional marks, and the marks of boxes and lists."""
_STYLE_TAG = re.compile(
    r"</?(?:b|strong|i|em|u|s|p|div|span|font|mark|code|small|big|center|h[1-6])(?:\s[^<>=]{1,40}=[^<>]{0,200})?>",
    re.I,
)
_LINE_TAG = re.compile(r"<br\s?/?>|</(?:p|div|h[1-6])>", re.I)
THOUGHT_END = re.compile(r"[<◁]/(?:think|thinking|thought|reasoning)[>▷]", re.I)
THOUGHT_START = re.compile(r"[<◁](?:think|thinking|thought|reasoning)[>▷]", re.I)
_TURN_TOKEN = re.compile(r"<\|[a-z_]{1,30}\|>|</s>|<(?:start|end)_of_turn>|\[/?INST\]")
_NEXT_QUESTION = re.compile(
    r"\n[ \t#*]{0,8}(?:(?:next question|question|q|human|user|问题|问|题目|例题|下一题|用户)[ \t]{0,4}\d{0,4}"
    r"[ \t*]{0,8}[:：]|The following (?:is|are) (?:an? )?multiple[ -]choice question"
    r"|以下是[^\n]{1,40}选择题)",
    re.I,
)

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_POWER = re.compile("(?<=[0-9])([⁺⁻]?[⁰¹²³⁴-⁹]+)")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁺⁻]+")
_VULGAR_FRACTION = re.compile("([0-9]?)([¼-¾⅐-⅞↉])")
_THIN_SPACE = re.compile("(?<=[0-9])[\u00a0\u2007\u2009\u202f'’](?=[0-9]{3}(?![0-9]))")
_CHARACTERS = str.maketrans(dict.fromkeys("−‐‑‒–", "-") | dict.fromkeys("⁄∕", "/") | dict.fromkeys("⋅·", "×"))

_STYLED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mathbb|operatorname|bm|emph)\s*"
    r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
)
_FRACTION = re.compile(r"([0-9]?)\s*\\[dtc]?frac\s*\{\s*([-+]?[0-9.,]+)\s*\}\s*\{\s*([0-9.,]+)\s*\}")
_SHORT_FRACTION = re.compile(r"([0-9]?)\s*\\[dtc]?frac\s*([0-9])\s*([0-9])")
_EXPONENT = re.compile(r"\^\s*\{\s*([-+]?[0-9]+)\s*\}")
_TIMES = re.compile(r"\\(?:times|cdot)(?![A-Za-z])")
_LATEX_SPACE = re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])|\\[,;:! ()\[\]]")
_BOX = re.compile(r"\\f?box(?:ed)?\s*(?=\{)")


def parts(text: str) -> list[str]:
    """Return the texts to search for the answer, the first choice first.

    If the model invents another question after its answer, these are the text before that question, and then
    the whole text. Thoughts (`<think>`) are left out; a thought without end hides all that follows.
    """
    text = without_thoughts(INVISIBLE.sub("", text)).strip()
    text = text.replace("<|begin_of_box|>", r"\boxed{").replace("<|end_of_box|>", "}")  # GLM's
    for limit in (_TURN_TOKEN, _NEXT_QUESTION):
        answer = limit.split(text, maxsplit=1)[0]
        if answer.strip() and answer != text:
            return [answer, text]
    return [text]


def without_thoughts(text: str) -> str:
    """Return the text after the last thought (`<think>`); a thought without end hides all that follows."""
    *_, text = THOUGHT_END.split(text)
    return THOUGHT_START.split(text)[0]


def whole_text(generation: str, extracted: str | None) -> str | None:
    """Return the generated text that a rule took whole and only trimmed, with its white space; else None.

    Args:
        generation: generated text.
        extracted: what the benchmark's `extract` rule took from it.
    """
    for text in (without_thoughts(generation), generation):  # the second with protocol=lm-eval
        if extracted == text.strip():
            return text
    return None


def normalized(text: str) -> str:
    """Return the text in plain characters: NFKC, one minus sign, fractions `3/4`, powers `10^3`, no LaTeX.

    HTML tags for style are removed. The content of a box is enclosed in BOX_START and BOX_END. Dollar signs
    are removed, of currencies and of formulas.
    """
    if "<" in text:
        text = _STYLE_TAG.sub("", _LINE_TAG.sub("\n", text))
    text = _POWER.sub(lambda match: "^" + match[1].translate(_SUPERSCRIPTS), text)
    text = _SUPERSCRIPT.sub("", text)
    text = _VULGAR_FRACTION.sub(lambda match: match[1] + " " + unicodedata.normalize("NFKC", match[2]), text)
    text = _THIN_SPACE.sub(",", text)
    text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
    text = _EXPONENT.sub(r"^\1", text)
    return _without_latex(text) if "\\" in text or "$" in text else text


def _without_latex(text: str) -> str:
    text = text.replace("\\$", "").replace("$", "").replace("{,}", ",").replace("\\%", "%")
    text = _LATEX_SPACE.sub(" ", text)
    for _ in range(3):  # styles within styles
        text = _STYLED.sub(r"\1", text)
    text = _TIMES.sub("×", text)
    text = _FRACTION.sub(r"\1 \2/\3", text)
    text = _SHORT_FRACTION.sub(r"\1 \2/\3", text)
    return _with_boxes(text)


def _with_boxes(text: str) -> str:
    """Replace boxes by their content between BOX_START and BOX_END; a nested box belongs to the outer one."""
    starts = {match.end(): match.start() for match in _BOX.finditer(text)}
    if not starts:
        return text
    fragments: list[str] = []
    depth, box_depth, copied = 0, 0, 0
    for brace in re.finditer(r"[{}]", text):
        position = brace.start()
        depth += 1 if brace[0] == "{" else -1
        if position in starts and not box_depth:
            fragments += [text[copied : starts[position]], BOX_START]
            box_depth, copied = depth, position + 1
        elif box_depth and depth < box_depth:
            fragments += [text[copied:position], BOX_END]
            box_depth, copied = 0, position + 1
    return "".join([*fragments, text[copied:]])
