"""Writes conf/README.md, which lists every key, group option and shipped benchmark.

Run it with `python -m workbench.cli.reference.page`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from workbench.cli.composition import register
from workbench.cli.key_types import groups
from workbench.cli.reference import Key, Section, recipe_values_text, sections
from workbench.cli.reference.architectures import SUPPORT
from workbench.config.adapter import AdapterMethod
from workbench.models.adapters.methods import BASES, CONDITIONS, EVERY, REFUSED
from workbench.shipped import shipped

HEAD = """\
# All configuration keys

- Set a key on the command line, `python -m workbench recipe=NAME KEY=VALUE`, or in a recipe of yours, a YAML
  in `./recipes`.
- Quote lists and mappings for the shell: `'KEY=[a,b]'`, `'KEY={name: value}'`. `null` means no value.
- NAME in a key is a name that you choose, as `cmmlu` in `benchmarks.cmmlu.limit`.
- The default column gives the value that every recipe starts from, then what shipped recipes set instead.
- `python -m workbench --keys train` prints one section in the terminal.
- `python -m workbench recipe=NAME --cfg job` prints the values that a command would use.

This page is made from the docstrings in `workbench/config`. Change them, then run
`python -m workbench.cli.reference.page`.
"""

GROUPS = """\
## Groups

`GROUP=OPTION` applies the file `conf/GROUP/OPTION.yaml`, which sets several keys at once. Options of your own
are files `./conf/GROUP/NAME.yaml`. The groups `data` and `train` have no shipped options.

```bash
python -m workbench recipe=quickstart quantization=int8 adapter=dora
```
"""

BENCHMARKS = r"""
## Shipped benchmarks

`'benchmark=[NAME,NAME]'` chooses benchmarks. Only the toy benchmarks bring their rows. For the others,
`benchmarks.NAME.path=FOLDER` names a local copy; without it the rows come from the Hugging Face Hub. The
first protocol is the default. Licence "not stated": the source names none. "layout not seen": the rows are
read by their published layout and tested on rows made by hand; no original file has been read.

```bash
python -m workbench recipe=evaluate model.path=MODEL \
    'benchmark=[cmmlu,hellaswag]' benchmarks.cmmlu.path=CMMLU_FOLDER
```
"""


ARCHITECTURES = """\
## Architectures

A causal model of each of these types is trained, resumed to the bit, merged, proven and scored, without
quantization, in int8 and in nf4. In float32, losses and log-likelihoods are within 1e-4 of those of plain
transformers and peft. `tests/models/test_architecture_table.py` does all of this with tiny models. Of other
types, trials find out the same when a model is loaded. "refused": in one line, before the first step.

```bash
python -m workbench recipe=sft model.path=google/gemma-2-2b data.path=rows.jsonl quantization=nf4
```
"""

METHODS = """\
## Methods of peft

`adapter.method=NAME` chooses one, `adapter.options` sets the fields of its configuration class. "yes": on
such a base a causal model is trained, scored and merged, and the merge is proven; on an unquantized base a
classifier is too, and killed trainings of both resume to the bit. `tests/pipeline/test_peft_methods.py` does
all of this with each method, on nf4 for both kinds of 4 bits.

```bash
python -m workbench recipe=sft model.path=MODEL data.path=rows.jsonl \\
    adapter.method=hira 'adapter.options={r: 16, exclude_modules: [down_proj]}'
```
"""


def page() -> str:
    """Return the text of conf/README.md; `register` must have been called before."""
    blocks = [
        HEAD,
        contents(),
        *map(section_block, sections()),
        GROUPS,
        *group_tables(),
        ARCHITECTURES,
        architecture_table(),
        METHODS,
        method_table(),
    ]
    return "\n".join([*blocks, BENCHMARKS.lstrip(), benchmark_table(), selection_table()])


def contents() -> str:
    """Return the page's table of contents: a line of links to all sections."""
    names = [section.name for section in sections()]
    links = [f"[{name}](#{name})" for name in names]
    links += ["[groups](#groups)", "[architectures](#architectures)"]
    links += ["[methods of peft](#methods-of-peft)"]
    return " · ".join([*links, "[shipped benchmarks](#shipped-benchmarks)"]) + "\n"


def section_block(section: Section) -> str:
    """Return the part of the page about a section: heading, text, example and table of keys."""
    rows = [[f"`{key.name}`", key.values, default_cell(key), key.text] for key in section.keys]
    example = f"```bash\n{section.example}\n```\n"
    keys = table(["key", "values", "default", "meaning"], rows)
    return "\n".join([f"## {section.name}\n", f"{section.text}\n", example, keys])


def default_cell(key: Key) -> str:
    """Return the table cell with a key's default, and the values that shipped recipes set instead."""
    default = key.default if key.default == "required" else f"`{key.default}`"
    return f"{default}; {recipe_values_text(key, '`')}" if key.recipes else default


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with these column names and rows of cells, in which `|` is escaped."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def group_tables() -> Iterator[str]:
    """Yield a table of options for each group except benchmark, and one of the recipes."""
    for group in sorted(groups() - {"benchmark", "recipe"}):
        files = sorted((shipped("conf") / group).glob("*.yaml"))
        rows = [[f"`{group}={file.stem}`", remark(file)] for file in files]
        if rows:
            yield table(["option", "meaning"], rows)
    recipes = sorted(shipped("recipes").glob("*.yaml"))
    rows = [[f"`recipe={path.stem}`", str(read(path)["description"])] for path in recipes]
    yield table(["recipe", "what it does"], rows)


def architecture_table() -> str:
    """Return the Markdown table of architectures, and of what a run with each of them can do."""
    rows = []
    for model_type, support in SUPPORT.items():
        runs_as = "Open-Llama" if support.is_open_llama else "transformers' class"
        experts = "unquantized" if support.has_experts else ""
        packs = "yes" if support.packs else "refused"
        shares = "yes" if support.shares else "no"
        export = "yes" if support.is_open_llama else "refused"
        rows.append([f"`{model_type}`", runs_as, experts, packs, shares, export, support.remark])
    columns = ["model_type", "runs as", "experts in int8", "data.packing", "shared prefixes", "recipe=export"]
    return table([*columns, "remark"], rows)


def method_table() -> str:
    """Return the Markdown table of adapter methods with the bases on which each works; refused ones last."""
    words, rows = {True: "yes", False: "refused"}, []
    trained = [method for method in AdapterMethod if method not in (AdapterMethod.none, *REFUSED)]
    for method in trained:
        bases = BASES.get(method, EVERY)
        held = ["yes", words[bases.int8], words[bases.four_bit]]
        rows.append([f"`{method.name}`", *held, CONDITIONS.get(method, "")])
    for method in sorted(REFUSED, key=lambda method: method.name):
        rows.append([f"`{method.name}`", *["refused"] * 3, f"it {REFUSED[method]}"])
    return table(["adapter.method", "unquantized base", "int8", "nf4, fp4", "remark, or why not"], rows)


def benchmark_table() -> str:
    """Return the Markdown table of shipped benchmarks."""
    rows = []
    for file in benchmark_files():
        values = read(file)
        if "source" not in values:
            continue
        protocols = list(values.get("protocols", {}))
        default = values.get("protocol", "default")
        names = [default, *(name for name in ("default", *protocols) if name != default)]
        items = f"{values['num_items']:,}" if "num_items" in values else "any"
        items += ", layout not seen" if is_layout_unseen(file) else ""
        rows.append(
            [f"`{file.stem}`", values["language"] or "any", source(values["source"]), licence(file), items]
            + [", ".join(names)]
        )
    return table(["benchmark", "language", "source", "licence", "items", "protocols"], rows)


def selection_table() -> str:
    """Return the Markdown table of the options of the group benchmark that choose several benchmarks."""
    rows = [
        [f"`benchmark={file.stem}`", remark(file), ", ".join(read(file)["defaults"])]
        for file in benchmark_files()
        if "source" not in read(file)
    ]
    return table(["selection", "meaning", "benchmarks"], rows)


def source(text: str) -> str:
    """Return a benchmark's source, `NAME, ADDRESS, ...`, as a Markdown link to the first address."""
    name, *addresses = text.split(", ")
    return f"[{name}]({addresses[0]})" if addresses else name


def licence(file: Path) -> str:
    """Return the licence in a benchmark's YAML file, from its comment `# Licence: NAME`.

    Raises:
        ValueError: There is no such comment.
    """
    match = re.search(r"^# Licence: (.+)$", file.read_text("utf-8"), re.M)
    if match is None:
        raise ValueError(f"{file}: no licence (a line '# Licence: NAME', or '# Licence: not stated')")
    return match[1].removesuffix(".")


def is_layout_unseen(file: Path) -> bool:
    """Return whether a benchmark's YAML file has a comment `# Layout not seen: ...`."""
    return re.search(r"^# Layout not seen: ", file.read_text("utf-8"), re.M) is not None


def remark(file: Path) -> str:
    """Return the comments of a YAML file as one line, without `@package` comments."""
    lines = [line[1:].strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#")]
    return " ".join(line for line in lines if not line.startswith("@package"))


def benchmark_files() -> list[Path]:
    """Return the shipped YAML files of the group benchmark, sorted."""
    return sorted((shipped("conf") / "benchmark").glob("*.yaml"))


def read(file: Path) -> dict[str, Any]:
    """Return the mapping in a shipped YAML file."""
    content = yaml.safe_load(file.read_text("utf-8"))
    assert isinstance(content, dict)
    return content


if __name__ == "__main__":
    register()
    (shipped("conf") / "README.md").write_text(page(), encoding="utf-8", newline="\n")
