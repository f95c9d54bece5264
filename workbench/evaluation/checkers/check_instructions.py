"""Checks by lm-evaluation-harness's checkers of IFEval whether texts follow their prompts' instructions.

Items with `language: zh` are checked by the rules of Multi-IF, in chinese_instructions.py. Run as a process
of its own, for the checkers download NLTK's data when they are imported, unless `LOCAL_RANK` says that
another process does so. It answers two kinds of JSON lines: {"items": [...]} with the instructions that can't
be checked, and an item with its `response` with the instructions that the response follows.
"""

import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SENTENCES = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
"""Instructions whose check needs the sentences that NLTK's data `punkt_tab` finds."""


def answer_lines() -> None:
    """Answer each line of standard input; what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import langdetect
    from lm_eval.tasks.ifeval import utils

    langdetect.DetectorFactory.seed = 0  # else a language is detected at random
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        reply = _unchecked(question["items"]) if "items" in question else _followed(utils, question)
        print(json.dumps(reply), file=replies, flush=True)


def _unchecked(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `faults`, index of an item -> why it can't be checked, and `absent`, indices that lack data."""
    import nltk
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    from workbench.evaluation.checkers import chinese_instructions

    try:
        nltk.data.find("tokenizers/punkt_tab")
        has_data = True
    except LookupError:
        has_data = False
    faults: dict[int, str] = {}
    absent = []
    for index, item in enumerate(items):
        names, arguments = item["instruction_id_list"], item["kwargs"]
        if unknown := [name for name in names if name not in INSTRUCTION_DICT]:
            faults[index] = f"unknown instruction {unknown[0]!r}"
            continue
        if len(names) != len(arguments):
            faults[index] = f"{len(names)} instructions, but kwargs of {len(arguments)}"
            continue
        build = chinese_instructions.check_of if _is_chinese(item) else _build
        for name, values in zip(names, arguments, strict=True):
            try:
                build(name, values)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                faults[index] = f"{name} has wrong kwargs, {error}"
        if not has_data and set(names) & set(SENTENCES):
            absent.append(index)
    return {"faults": faults, "absent": absent}


def _build(name: str, arguments: Mapping[str, Any]) -> None:
    """Build an instruction as lm-evaluation-harness does; wrong arguments raise an error."""
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    INSTRUCTION_DICT[name](name).build_description(**{k: v for k, v in arguments.items() if v})


def _is_chinese(item: Mapping[str, Any]) -> bool:
    return item.get("language") == "zh"


def _followed(utils: Any, item: dict[str, Any]) -> dict[str, list[bool]]:
    """Return which instructions a response follows, `strict` and `loose`."""
    if _is_chinese(item):
        from workbench.evaluation.checkers import chinese_instructions

        return chinese_instructions.follow_instructions(item)
    random.seed(0)  # the checkers draw the arguments that an item leaves open
    results = utils.process_results({"key": 0, **item}, [item["response"]])
    return {kind: list(results[f"inst_level_{kind}_acc"]) for kind in ("strict", "loose")}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[3]))  # `workbench` may be a checkout that isn't installed
    answer_lines()
