"""Translates the keys of a job of LLaMA-Factory, axolotl or TRL into a recipe and assignments of our keys."""

from dataclasses import dataclass, field
from typing import Any

from workbench.cli.foreign_keys import STAGES, converted, is_on, key_here, obstacle, option_here, remark
from workbench.cli.foreign_words import assignment, model_arguments
from workbench.cli.key_types import all_keys, declared_type, groups, kind_of
from workbench.cli.other_tools.contents import is_nested, names_in, shown_value, text
from workbench.cli.other_tools.data_sets import data_settings
from workbench.cli.unknown_keys import NAME
from workbench.cli.yaml_files.recipes import recipe_files

VERBS = {
    "train": "",
    "export": "merge",
    "chat": "chat",
    "webchat": "chat",
    "api": "serve",
    "eval": "evaluate",
    "merge-lora": "merge",
}
"""Verb of llamafactory-cli or axolotl -> recipe; empty: the keys of the file decide."""

DATA_KEYS = ("dataset", "datasets", "dataset_dir")
OF_RECIPES = {
    "chat": {"temperature": "chat.temperature", "max_new_tokens": "chat.max_new_tokens"},
    "merge": {"export_dir": "run_dir"},
    "predict": {"max_samples": "predict.limit"},
}
"""Recipe -> key of another tool -> our key, for keys whose translation depends on the recipe."""

PRECISE = ("use_dora", "peft_use_dora", "bnb_4bit_quant_type", "loraplus_lr_ratio")
"""Keys that refine another key and override it, as use_dora overrides finetuning_type: lora."""


@dataclass
class Translation:
    """A job of another tool, translated into a recipe and assignments of our keys."""

    recipe: str | None
    """Name of our recipe; None: the job's keys don't decide it."""
    ours: dict[str, str] = field(default_factory=dict)
    """Our key -> KEY=VALUE."""
    without: list[str] = field(default_factory=list)
    """Untranslatable keys of the job, each as `KEY: VALUE`, or `KEY: VALUE (REASON)`."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what differs here, for the user."""

    def words(self) -> list[str]:
        """Return `recipe=NAME`, if the recipe is known, and all assignments."""
        return [f"recipe={self.recipe}", *self.ours.values()] if self.recipe else list(self.ours.values())

    def set(self, key: str, name: str, value: str) -> None:
        """Add KEY=VALUE to `ours`, unless the key has another value already from a key of the same job.

        The contradiction is then listed in `without`. Keys in PRECISE replace the earlier value.

        Args:
            key: The other tool's key.
            name: Our key, or our KEY=VALUE.
            value: The other tool's value.
        """
        ours, word = name.partition("=")[0], assignment(name, converted(key, value))
        is_kept = key not in PRECISE or self.ours.get(ours) == "adapter=none"
        if is_kept and self.ours.get(ours, word) != word:
            self.without.append(f"{key}: {value} (contradicts {self.ours[ours]})")
        else:
            self.ours[ours] = word

    def leave_out(self, *beginnings: str) -> list[str]:
        """Remove the assignments of our keys that start with one of the texts; return the removed ones."""
        keys = [key for key in self.ours if key.startswith(beginnings)]
        return [self.ours.pop(key) for key in keys]


def translate(content: dict[Any, Any], verb: str = "") -> Translation:
    """Translate a job of another tool into a recipe and assignments.

    Args:
        content: The job's keys and values.
        verb: Verb of llamafactory-cli or axolotl before the file, such as export; empty: none.
    """
    translation = Translation(recipe_of(content, verb))
    add_rows(translation, content)
    if content.get("stage") == "pt":
        translation.ours["data.format"] = "data.format=text"
    for key, value in content.items():
        add(translation, str(key), value, content)
    leave_out_unused(translation)
    return translation


def recipe_of(content: dict[Any, Any], verb: str = "") -> str | None:
    """Return our recipe for another tool's job, by its keys and the verb; None if they don't decide it."""
    keys = {str(key) for key, value in content.items() if value not in (None, "")}
    adapter = any(key_here(key) == "adapter.path" for key in keys)
    merge_or_export = "merge" if adapter else "export"
    for key in ("recipe", "job", "command"):
        if key in keys and (option := option_here("recipe", str(content[key]), sorted(recipe_files()))):
            return option
    if verb == "export" or "export_dir" in keys:
        return merge_or_export
    if VERBS.get(verb):
        return VERBS[verb]
    if is_on(content.get("do_train")) or content.get("stage") == "pt":
        return "sft"
    if is_on(content.get("do_predict")):
        return "predict"
    if {"task", "tasks"} & keys and not {"stage", *DATA_KEYS} & keys:
        return "evaluate"
    if "stage" in keys:
        return "sft"
    trains = any((key_here(key) or key).startswith(("train.", "data.path", "run_dir")) for key in keys)
    return "chat" if ("infer_backend" in keys or adapter) and not trains else None


def add_rows(translation: Translation, content: dict[Any, Any]) -> None:
    """Add the assignments of data sets and columns: of data.*, or for the recipe predict of predict.*."""
    if translation.recipe != "predict":
        settings = data_settings(content)
    else:
        named_by = "eval_dataset" if content.get("eval_dataset") else "dataset"
        rows = data_settings(content, named_by)
        if "data.sources" in rows:
            translation.without.append(f"{named_by}: {text(content[named_by])} (one file at a time)")
        roles = {"data.path": "predict.input", "data.columns": "predict.columns"}
        settings = {roles[key]: value for key, value in rows.items() if key in roles}
    translation.ours |= {key: assignment(key, text(value)) for key, value in settings.items()}


def add(translation: Translation, key: str, value: Any, content: dict[Any, Any]) -> None:
    """Translate one key of the job: add assignments, a note or both, or list the key in `without`.

    Nothing is added for a value of null, for false where our key isn't boolean, and for keys that `add_rows`
    has translated. lm-evaluation-harness's `model_args`, and a key of each benchmark, give several
    assignments.

    Args:
        translation: The translation so far, which is changed.
        key: The other tool's key.
        value: Its value.
        content: All keys and values of the job.
    """
    name = OF_RECIPES.get(translation.recipe or "", {}).get(key) or key_here(key) or same_last_word(key)
    is_done = key in DATA_KEYS and not translation.ours.keys().isdisjoint(("data.path", "data.sources"))
    is_done |= key in ("dataset_dir", "eval_dataset") and "predict.input" in translation.ours
    if is_done or (key == "stage" and str(value) in STAGES):
        return
    if key == "model_args" and isinstance(value, str):
        translation.ours |= {word.partition("=")[0]: word for word in model_arguments(value)}
    elif reason := obstacle(key, value, translation.recipe):
        translation.without.append(f"{key}: {shown_value(key, value)} ({reason})")
    elif name is not None and NAME in name and translation.recipe in (None, "evaluate"):
        for benchmark in benchmarks_of(content) or [NAME]:
            translation.set(key, name.replace(NAME, benchmark), text(value))
    elif note := remark(key, value, name):
        translation.notes.append(note)
        if name is not None:
            translation.set(key, name, text(value))
    elif name is None or NAME in name or is_nested(value) or key == "stage":
        translation.without.append(f"{key}: {shown_value(key, value)}")
    elif is_set(name, value) and not name.startswith("recipe"):
        translation.set(key, name, text(value) if value != "" else "")


def benchmarks_of(content: dict[Any, Any]) -> list[str]:
    """Return the benchmarks that another tool's job scores, by our names; empty if it names none."""
    key = next((key for key in content if key_here(str(key)) == "benchmark"), None)
    if key is None or not content[key]:
        return []
    word = assignment("benchmark", text(content[key])).strip("'").partition("=")[2]
    return names_in(word.strip("[]"))


def is_set(name: str, value: Any) -> bool:
    """Return whether a value must be assigned to our key: null never, and false only to a boolean key."""
    return value is not None and (value is not False or declared_type(name) is bool)


def same_last_word(key: str) -> str | None:
    """Return our key or group of this name, else the first key with this last word; None: there is none.

    So `logging_steps` gives `train.logging_steps`.
    """
    if kind_of(key) or key in groups():
        return key
    return next((ours for ours in all_keys() if ours.rpartition(".")[2] == key and NAME not in ours), None)


def leave_out_unused(translation: Translation) -> None:
    """Remove the assignments that the recipe ignores or refuses; add notes on what the user would miss."""
    ours = translation.ours
    if ours.get("adapter") == "adapter=none" and translation.recipe in (None, "sft"):
        if unused := translation.leave_out("adapter.", "train.lora_plus_ratio"):
            translation.notes.append(f"adapter=none trains all weights, without {' '.join(unused)}")
        if unused := translation.leave_out("quantization"):
            translation.notes.append(
                f"adapter=none trains an unquantized model, so {' '.join(unused)} is left out (adapter=lora "
                "and adapter=dora train on a quantized one)"
            )
    if translation.recipe in ("merge", "export", "chat", "serve", "evaluate", "predict"):
        if "adapter.path" in ours:
            ours.pop("adapter", None)
        if ours.get("data.template") == "data.template=auto":
            ours.pop("data.template")
            translation.notes = [note for note in translation.notes if "data.template=auto" not in note]
    if translation.recipe == "merge" and "run_dir" in ours:
        folder = ours["run_dir"].strip("'").partition("=")[2]
        translation.notes.append(f"the merged model is then in {folder}/merged")
