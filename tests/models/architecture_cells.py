"""Rows of the table of architectures: what came out of each step, as a word or a number."""

from typing import Any

RESUMED = ("killed", "resumed", "same")
COLUMNS = (
    *("runs as", "trained", "scored", "merged", "resumed", "joined", "packed", "shared", "experts"),
    *("exported", "bf16"),
)
Outcome = dict[str, Any]
"""What came out of a step: differences and facts, or the line of a refusal, or a traceback."""


def within(values: dict[str, float] | float, bound: float = 1e-4) -> str:
    """A cell about differences: yes, or the largest one."""
    largest = max(values.values()) if isinstance(values, dict) else values
    return "yes" if largest <= bound else f"differs by {largest:.2g}"


def cells(steps: dict[str, Outcome]) -> dict[str, str]:
    """A row of the table: column -> yes, no, or what is wrong or refused."""
    row = {
        name: step.get("failed", "").strip().rpartition("\n")[2]
        or (f"refused{'' if step['early'] else ' late'}: {step['refused']}" if "refused" in step else "")
        for name, step in steps.items()
    }
    if not row["trained"]:
        step = steps["trained"]
        is_proven = step["proven"] and abs(step["effect"] - 1) < 1e-3 and step["learned"] > 1e-2
        row |= {
            "runs as": step["class"],
            "trained": within(step["loss"]),
            "scored": within(step["scores"]),
            "merged": within(step["merged"]) if is_proven else "not proven",
            "joined": "yes" if step["joined"] else "no",
            "shared": "yes" if step["shared"] else "no",
            "experts": "unquantized" if "unquantized (int8" in step["experts"] else "",
        }
    row["packed"] = row["packed"] or within(steps["packed"]["loss"])
    row["resumed"] = row["resumed"] or ("yes" if all(steps["resumed"][k] for k in RESUMED) else "no")
    row["exported"] = row["exported"] or within(steps["exported"]["scores"])
    row["bf16"] = row["bf16"] or f"{steps['bf16']['scores']:.2g}"
    return row


def table(made: dict[str, dict[str, dict[str, Outcome]]]) -> str:
    """The outcomes as a Markdown table; bf16 is the largest difference, in nats, of scores in bfloat16."""
    rows = [
        [name, method, *(cells(steps).get(column, "") for column in COLUMNS)]
        for name, methods in made.items()
        for method, steps in methods.items()
    ]
    lines = [["architecture", "quantization", *COLUMNS], ["---"] * (len(COLUMNS) + 2), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def figures(made: dict[str, dict[str, dict[str, Outcome]]]) -> str:
    """The largest differences from plain transformers, of all quantizations, as a Markdown table, in nats."""
    rows = []
    for name, methods in made.items():
        trained = [steps["trained"] for steps in methods.values()]
        losses = max(step["loss"] for step in trained)
        scores = max(value for step in trained for value in step["scores"].values())
        rounded = max(steps["bf16"]["scores"] for steps in methods.values())
        rows.append([name, *(f"{value:.0e}" for value in (losses, scores)), f"{rounded:.1g}"])
    lines = [["architecture", "losses", "scores", "scores in bfloat16"], ["---"] * 4, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
