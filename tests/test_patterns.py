"""Users' regular expressions: what `re` finds is found, and no text takes longer than the limit."""

import itertools
import random
import re
import subprocess
import sys

import pytest
import yaml

from workbench.patterns import matching as patterns
from workbench.patterns.expanded_size import expanded_size
from workbench.patterns.matching import PatternError, check_pattern, last_match, replaced
from workbench.patterns.re_syntax import as_re
from workbench.shipped import shipped

PATTERNS = [
    r"answer is \(?([A-D])\)?",
    r"(?i)the answer is:?\s*\$?(-?\d[\d,]*(?:\.\d+)?)",
    r"答案(?:是|为)?[:：]?\s*([A-D])",
    r"#### (-?[0-9.,]+)",
    r"\\boxed\{([^}]*)\}",
    r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
    r"\b\w+\b",
    r"\B\w",
    r"[\w-]+",
    r"[^\w\s]+",
    r"\W+",
    r"\S+\s*$",
    r"(?m)^\s*(.+?)\s*$",
    r"(?s)<answer>(.*?)</answer>",
    r"[]a]+",
    r"[^]a]+",
    r"[[a]+",
    r"[[:a]+",
    r"a{2}|b{,2}c|x{e<=1}|y{i}|z{",
    "(?x) a # the letter [a\\w]\n        \\w* (?# another [ comment) \\d",
    r"(?P<n>\d+)\.(?P=n)",
    r"(?a)\w+",
    r"\N{LATIN SMALL LETTER A}+",
    r"(?<!\d)\d{1,3}(?=元|$)",
    r"a*",
    r"|b",
    r"(?>a+)b|a++c",
    r"\d+(?:/\d+)?%?",
    r"[+\-*/]|\.",
    r"(a)?(b)?",
]
PIECES = [
    *(
        "answer is (B).",
        "The ANSWER is: $1,234.50",
        "答案是：C",
        "#### -12.",
        "\\boxed{x}",
        "<answer>\n7\n</answer>",
    ),
    *(
        "e\u0301te\u0301",
        "ไทย",
        "नमस्ते",
        "x_y-z",
        "a\x1cb",
        "\u2003",
        "١٢٣",
        "①²½",
        "12.12",
        "ſK",
        "aab",
        "aaac",
        "]",
    ),
    *("[a:", "x{e<=1}", "y{i}", "z{", "a1b2", "三元", "35元", "\n", "  ", "%", "3/4", "😀", "bc", "İi"),
]


def texts(count: int) -> list[str]:
    draw = random.Random(7)
    return ["", *PIECES, *("".join(draw.choices(PIECES, k=draw.randint(2, 6))) for _ in range(count))]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_matches_are_those_of_re(pattern):
    check_pattern(pattern)
    for text in texts(150):
        found = list(re.finditer(pattern, text))
        groups = [group for group in found[-1].groups() if group is not None] if found else []
        wanted = (groups or [found[-1].group()])[0] if found else None
        assert last_match(pattern, text) == wanted, text
        assert replaced(pattern, r"<\g<0>>", text) == re.sub(pattern, r"<\g<0>>", text), text


def test_every_short_pattern_is_read_as_re_reads_it():
    parts = ["a", r"\w", r"\b", "[", "]", "^", "{", "}", ",", "1", "*", "?", "(", ")", "|", r"\[", "-"]
    read = 0
    for size in (1, 2, 3):
        for chosen in itertools.product(parts, repeat=size):
            pattern = "".join(chosen)
            try:
                expression = re.compile(pattern)
            except (re.error, FutureWarning):
                continue
            read += 1
            for text in ("", "a1", "a{1,}", "[a]-b", "aa^|"):
                wanted = [match.span() for match in expression.finditer(text)]
                assert [m.span() for m in patterns._compiled(pattern).finditer(text)] == wanted, pattern
    assert read > 1000


@pytest.fixture(autouse=True)
def _nothing_used_yet():
    patterns._usage.cache_clear()


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){25}", r"^(\w+\s?)*$", "(x+x+)+y"])
def test_a_pattern_that_would_never_end_is_one_line(monkeypatch, pattern):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.3)
    for text in ("a" * 5000 + "!", "x" * 5000, "a " * 500 + "!"):
        for use in (last_match, lambda p, t: replaced(p, "", t)):
            try:
                use(pattern, text)
            except PatternError as error:
                assert pattern.replace("\\", "\\\\") in str(error) and "\n" not in str(error)


def test_a_limit_on_time_ends_a_match(monkeypatch):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.2)
    with pytest.raises(PatternError, match=r"'\(a\|aa\)\+\$' takes more than 0.2 seconds on one text"):
        last_match("(a|aa)+$", "a" * 5000 + "!")


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", "*a", "(?P<n>", "(" * 5000, "a{99999999999}", "x" * 20_000, r"\q", "(?<=a*)b", "(?R)"],
)
def test_what_is_not_a_pattern_is_one_line(pattern):
    with pytest.raises(PatternError, match="is not a regular expression") as caught:
        check_pattern(pattern)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("new", [r"\9", r"\q", r"\g<x>", r"\g<"])
def test_what_is_not_a_replacement_is_one_line(new):
    with pytest.raises(PatternError, match="is not a replacement"):
        replaced("a", new, "aaa")


def test_a_replacement_that_makes_a_text_too_long_is_one_line():
    with pytest.raises(PatternError, match="makes a text of more than 10,000,000 characters"):
        replaced("a", "b" * 1_000_000, "a" * 1_000_000)


def test_a_pattern_is_rewritten_only_where_the_two_differ():
    assert as_re(r"(?i)answer:?\s*([A-D]+)\d{1,2}$").replace(r"[\s\x1c-\x1f]", r"\s") == (
        r"(?i)answer:?\s*([A-D]+)\d{1,2}$"
    )


def processor_seconds(monkeypatch, seconds_a_look: float) -> None:
    """Let the processor's clock advance by a fixed time whenever it is read."""
    looks = itertools.count()
    monkeypatch.setattr(patterns.time, "thread_time", lambda: next(looks) * seconds_a_look)


def test_a_pattern_that_is_slow_on_every_text_is_refused_before_all_are_read(monkeypatch):
    processor_seconds(monkeypatch, 0.1)
    with pytest.raises(PatternError, match=r"'a\+' takes 2\.\d seconds on \d+ texts"):
        for _ in range(1000):
            last_match("a+", "a")


def test_a_match_that_a_busy_machine_did_not_run_is_tried_again(monkeypatch):
    processor_seconds(monkeypatch, 0.0)
    limits = []

    def match(seconds):
        limits.append(seconds)
        if len(limits) < 3:
            raise TimeoutError
        return "a"

    assert patterns._within_limit("a", match) == "a"
    assert limits == [patterns.MAX_SECONDS] * 3


@pytest.mark.parametrize("pattern", [r"\d+", r"(\w)=(\d)", r"#### (\-?[0-9\.\,]+)", "", "(a)|b"])
def test_all_matches_are_those_of_re(pattern):
    text = "a=1, b=22 #### 1,000.5 ab"
    assert patterns.all_matches(pattern, text) == re.findall(pattern, text)


def test_all_matches_end_in_time(monkeypatch):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.2)
    with pytest.raises(PatternError, match="takes more than"):
        patterns.all_matches("(a|aa)+$", "a" * 60 + "b")


LARGE = [
    "(x{9999}){9999}",
    "x{4294967294}",
    "(?:a?){99999999}",
    "(?x) (?: x{999} # )\n y ) {9999,}?",
    r"(?:(?:(?:\b[^]a]{99}){99}|b)?){99}",
    "(?=x{99999}){1000000}",
    "(?x:(x {9999})\n{9999})",
]
MEASURED = """
import resource, sys
from workbench.patterns.expanded_size import expanded_size
from workbench.patterns.matching import PatternError, check_pattern
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
for pattern in sys.argv[1:]:
    try:
        check_pattern(pattern)
    except PatternError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_pattern_whose_repetitions_would_take_gigabytes_is_one_line_and_little_memory():
    command = [sys.executable, "-c", MEASURED, *LARGE]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *lines, kilobytes = output.splitlines()
    assert len(lines) == len(LARGE) and all("too much memory (at most 100,000" in line for line in lines)
    assert all(repr(pattern) in line for pattern, line in zip(LARGE, lines, strict=True))
    assert int(kilobytes) < 50_000


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("ab", 2),
        ("(ab){3}", 9),
        ("(?:a{2}b){3,5}", 18),
        ("a{0,99999}b{,99999}c*", 4),
        ("a{}{x}[{9}]{2}", 14),
        (r"\N{DIGIT ONE}{4}\{{5}", 9),
        ("(?x) a {3} # b{9}\n (?-x: {2})", 13),
    ],
)
def test_required_repetitions_count_as_often_as_they_are_required(pattern, size):
    re.compile(pattern)
    assert expanded_size(pattern, is_verbose=pattern.startswith("(?x)")) == size
    check_pattern(pattern)


def values_of(value, key):
    """The values of a key anywhere in a YAML file."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from [inner] if name == key else values_of(inner, key)


def test_no_shipped_pattern_comes_near_the_limit_on_repetitions():
    files = [yaml.safe_load(path.read_text("utf-8")) for path in shipped("conf").rglob("*.yaml")]
    found = [pattern for file in files for pattern in values_of(file, "pattern")]
    assert len(found) >= 3
    for pattern in found:
        assert expanded_size(pattern) < patterns.MAX_EXPANDED / 100
        check_pattern(pattern)
