"""Answers a configuration file of LLaMA-Factory, axolotl or TRL with the command that does the same here."""

from collections.abc import Sequence
from pathlib import Path

from workbench.cli.foreign_keys import no_such_stage
from workbench.cli.other_tools.contents import mapping
from workbench.cli.other_tools.translation import VERBS, Translation, translate
from workbench.cli.yaml_files.recipes import recipe_files
from workbench.errors import ConfigError, FileOfAnotherToolError

FEWEST = 2
"""A file with at least this many translatable keys counts as a configuration file of another tool."""


def check_files_of_other_tools(words: Sequence[str]) -> None:
    """Check that no word names a configuration file of another tool.

    Raises:
        FileOfAnotherToolError: A word does; the message has the command that replaces the file.
        ConfigError: The file's training stage doesn't exist here, or a word is any other YAML or JSON file,
            where a recipe's name belongs.
    """
    for verb, word in zip(["", *words], words, strict=False):
        name = word.removeprefix("recipe=").removeprefix("--config=")
        if name.endswith((".yaml", ".yml", ".json")) and "=" not in name and Path(name).is_file():
            content = mapping(Path(name))
            found = translate(content, verb if verb in VERBS else "")
            if len(found.ours) >= FEWEST:
                if refusal := no_such_stage(content.get("stage")):
                    raise ConfigError(f"{name}: stage: {refusal}")
                raise FileOfAnotherToolError(f"{name}: not a recipe; here it is\n{answer(found)}")
            if word in (name, f"recipe={name}"):
                raise ConfigError(f"{name}: {how_recipes_are_named(Path(name))}")


def how_recipes_are_named(path: Path) -> str:
    """Return the hint for a recipe given as a file: name it without its ending, or move it to ./recipes."""
    if path.stem in recipe_files():
        return f"a recipe is named without its ending (recipe={path.stem})"
    return f"not in ./recipes (move it there, then recipe={path.stem})"


def answer(found: Translation) -> str:
    """Return the lines of the error message: our command for the same job, untranslatable keys, notes."""
    words = found.words() if found.recipe else ["recipe=sft", *found.words()]
    lines = [f"python -m workbench {' '.join(words)}"]
    if found.without:
        lines.append(f"without a counterpart: {', '.join(found.without)}")
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])
