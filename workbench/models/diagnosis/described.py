"""Compares the files beside a merged model's weights with those of the adapter or the base.

Chat template, end tokens, sampling settings, vocabulary size and architecture are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.models.checkpoints.computing_fields import changed_fields
from workbench.models.checkpoints.generation_config import FILE as GENERATION_FILE
from workbench.models.checkpoints.model_folder import HEAD, ModelFolder
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.diagnosis.findings import Finding

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
SAMPLING = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "max_new_tokens",
    "max_length",
)
"""Fields of generation_config.json that are compared."""


@dataclass(frozen=True)
class Description:
    """Reads the files beside the weights of a model or an adapter, when a property needs them."""

    folder: Path
    """Folder of the model or adapter; a GGUF file has no such files."""

    def _json(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        return read_json_object(file) if self.folder.is_dir() and file.is_file() else {}

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """Return the content of tokenizer_config.json; empty if the file is missing."""
        return self._json("tokenizer_config.json")

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Return the content of generation_config.json; empty if the file is missing."""
        return self._json(GENERATION_FILE)

    @property
    def has_tokenizer(self) -> bool:
        """Return whether the folder has one of TOKENIZER_FILES."""
        return any((self.folder / name).is_file() for name in TOKENIZER_FILES)

    @property
    def template(self) -> str | None:
        """Return the chat template without white space around it; None if the folder has none.

        Of several named templates it is the one named `default`.
        """
        file = self.folder / TEMPLATE_FILE
        if self.folder.is_dir() and file.is_file():
            return file.read_text(encoding="utf-8", errors="replace").strip()
        template = self.tokenizer_config.get("chat_template")
        if isinstance(template, list):  # several, each with a name
            named = {
                entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)
            }
            template = named.get("default")
        return template.strip() if isinstance(template, str) else None

    @property
    def end_token(self) -> str | None:
        """Return the tokenizer's end token as text; None if no file names one."""
        token = self.tokenizer_config.get("eos_token") or self._json("special_tokens_map.json").get(
            "eos_token"
        )
        content = token.get("content") if isinstance(token, Mapping) else token
        return content if isinstance(content, str) else None

    @property
    def generation_ends(self) -> set[int]:
        """Return the token ids that end generation; empty if generation_config.json names none."""
        ends = self.generation.get("eos_token_id")
        return {end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)}

    @property
    def num_tokens(self) -> int | None:
        """Return the tokenizer's largest token id plus one; None if no JSON file has the vocabulary."""
        vocabulary = self._json("tokenizer.json")
        model = vocabulary.get("model") or {}
        tokens = model.get("vocab") or self._json("vocab.json")
        ids = [len(tokens) - 1] if isinstance(tokens, list) else [*tokens.values()]
        added = [*vocabulary.get("added_tokens", [])]
        ids += [entry.get("id", -1) for entry in added if isinstance(entry, Mapping)]
        ids += self._json("added_tokens.json").values()
        return max((index for index in ids if isinstance(index, int)), default=-1) + 1 or None


def compare_descriptions(base: ModelFolder, merged: ModelFolder, adapter: Path | None) -> Iterator[Finding]:
    """Yield a finding for each difference of the files beside the merged model's weights from those expected.

    The expected values are those in the adapter's folder; values that it lacks, those in the base's.

    Args:
        base: The base.
        merged: The merged model.
        adapter: The adapter's folder; None: the base's values are expected.

    Raises:
        CheckpointError: A file is not JSON.
    """
    merged_files = Description(merged.path)
    sources = [Description(folder) for folder in (adapter, base.path) if folder is not None]
    yield from _architecture(base, merged)
    yield from _vocabulary(merged, merged_files, sources)
    if not merged_files.has_tokenizer:
        yield Finding(("no_tokenizer",), f"{merged.path}")
    else:
        yield from _texts(merged_files, sources)
    if not merged.is_classifier:
        yield from _generation(merged_files, sources)


def _first(values: Sequence[Any]) -> Any:
    return next((value for value in values if value), None)


def _texts(merged_files: Description, sources: Sequence[Description]) -> Iterator[Finding]:
    """Yield findings if chat template or end token differ from the expected ones."""
    template = _first([source.template for source in sources])
    if template is not None and merged_files.template != template:
        which = "missing" if merged_files.template is None else "another one than the adapter's or base's"
        if len(sources) > 1 and merged_files.template and merged_files.template == sources[-1].template:
            which = "the base's, not the adapter's"
        yield Finding(("chat_template",), f"the chat template is {which}")
    end = _first([source.end_token for source in sources])
    if end is not None and merged_files.end_token != end:
        seen = f"the tokenizer's end token is {merged_files.end_token!r} instead of {end!r}"
        yield Finding(("end_token",), seen)


def _generation(merged_files: Description, sources: Sequence[Description]) -> Iterator[Finding]:
    """Yield findings if generation_config.json has other end tokens or sampling settings than expected.

    Expected are those of the adapter, or else of the base.
    """
    ends = _first([source.generation_ends for source in sources])
    if ends and not ends <= merged_files.generation_ends:
        now = sorted(merged_files.generation_ends) or "not given"
        yield Finding(
            ("generation_config",), f"generation_config.json: eos_token_id is {now} instead of {sorted(ends)}"
        )
    settings = _first([source.generation for source in sources]) or {}
    changed = [
        name
        for name in SAMPLING
        if merged_files.generation and merged_files.generation.get(name) != settings.get(name)
    ]
    if changed:
        yield Finding(("sampling",), f"generation_config.json: {', '.join(changed)}")


def _vocabulary(
    merged: ModelFolder, merged_files: Description, sources: Sequence[Description]
) -> Iterator[Finding]:
    """Yield a finding if the embedding has fewer rows than tokens, or not the number in config.json."""
    name = merged.embedding()
    if name is None:
        return
    rows = merged.tensors[name].shape[0]
    sizes = [("its tokenizer", merged_files.num_tokens)]
    sizes += [("the adapter's tokenizer", source.num_tokens) for source in sources[:-1]]
    for whose, size in sizes:
        if size is not None and size > rows:
            seen = f"the embedding has {rows:,} rows, and {whose} {size:,} tokens"
            yield Finding(("embedding_rows",), seen, [name])
            return
    size = merged.config.get("vocab_size")
    if isinstance(size, int) and size != rows:
        seen = f"the embedding has {rows:,} rows, and config.json says vocab_size={size:,}"
        yield Finding(("embedding_rows",), seen, [name])


def _architecture(base: ModelFolder, merged: ModelFolder) -> Iterator[Finding]:
    """Yield a finding for fields of config.json that change the computation and differ from the base's.

    Another one if config.json ties embedding and head, so that a head in the file isn't read.
    """
    changed = changed_fields(base.config, merged.config)
    if changed:
        yield Finding(("architecture",), f"config.json: {'; '.join(changed[:3])}")
    if merged.is_tied and HEAD in merged.tensors and not base.is_tied:
        yield Finding(("lost_head",), f"config.json ties the embeddings, so that {HEAD} is not read", [HEAD])
