"""Five rows made by hand of benchmarks of code, in the layout of the hub and in the published local one.

Benchmark -> (rows on the hub, few-shot rows on the hub, local file -> its text).
"""

import json

from layouts import lines

FUNCTIONS = [
    ("double", "    return 2 * x\n", "candidate(3) == 6"),
    ("triple", "    return 3 * x\n", "candidate(3) == 9"),
    ("negative", "    return -x\n", "candidate(3) == -3"),
    ("square", "    y = x * x\n    return y\n", "candidate(3) == 9"),
    ("half", "    return x // 2\n", "candidate(3) == 1"),
]
HUMANEVAL = [
    {
        "task_id": f"HumanEval/{number}",
        "prompt": f'from typing import List\n\n\ndef {name}(x: int) -> int:\n    """ The {name}.\n    """\n',
        "entry_point": name,
        "canonical_solution": solution,
        "test": f"\n\nMETADATA = {{}}\n\n\ndef check(candidate):\n    assert {test}\n\n",
    }
    for number, (name, solution, test) in enumerate(FUNCTIONS)
]


def task(number: int, name: str) -> dict:
    """A task of MBPP whose function multiplies by its number."""
    return {
        "task_id": number,
        "text": f"Write a function {name} to multiply by {number}.",
        "code": f"def {name}(x):\r\n  return {number} * x",
        "test_setup_code": "unit = 1" if number == 12 else "",
        "test_list": [f"assert {name}({n}) == {n * number}{' * unit' * (number == 12)}" for n in (1, 2, 3)],
        "challenge_test_list": [],
    }


SHOTS = [task(number, f"shot_{number}") for number in range(1, 5)]
TASKS = [task(number, f"times_{number}") for number in (11, 12, 13, 509, 510)]
LATER = [task(511, "times_511"), task(974, "times_974")]


def checked(row: dict) -> dict:
    """A task in the sanitized layout, with a fourth test and an import."""
    name = row["test_list"][0].split("(")[0].removeprefix("assert ")
    return {
        "source_file": "Benchmark Questions Verification V2.ipynb",
        "task_id": row["task_id"],
        "prompt": row["text"],
        "code": row["code"].replace("\r\n", "\n"),
        "test_imports": ["import math"],
        "test_list": [
            *(test.removesuffix(" * unit") for test in row["test_list"]),
            f"assert {name}(math.floor(4.5)) == {4 * row['task_id']}",
        ],
    }


CODE: dict[str, tuple[list[dict], list[dict], dict[str, str]]] = {
    "humaneval": (HUMANEVAL, [], {"HumanEval.jsonl": lines(*HUMANEVAL)}),
    "mbpp": (TASKS, SHOTS, {"mbpp.jsonl": lines(*SHOTS, *TASKS, *LATER)}),
    "mbpp_sanitized": (
        list(map(checked, TASKS)),
        list(map(checked, SHOTS[1:])),
        {"sanitized-mbpp.json": json.dumps([checked(row) for row in (*SHOTS[1:], *TASKS, *LATER)])},
    ),
}
