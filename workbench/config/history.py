"""What earlier versions of the configuration had, so that their runs are found and go on.

Names of runs, fingerprints of steps and keys of caches are made of configuration values. A key that an
earlier version didn't have counts there only when it differs from what that version did without it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, get_args, get_origin, get_type_hints

from workbench.config.data import Template
from workbench.errors import ConfigError

CONFIG_VERSION = 2
"""Of the configuration that this code writes; a config.yaml that names none is of version 1."""


FORMER_ENUMS = {("DataConfig", "template"): Template, ("SourceConfig", "template"): Template}
"""Fields that are texts today and were options of an enum: fingerprints were made of the options."""

Treat = Callable[[Mapping[str, Any], type, str], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ChangedDefault:
    """A key whose default is another one than in earlier versions, or that they had no name for."""

    version: int
    """The first configuration version with today's default."""
    key: str
    """Dotted; `*` stands for a name that the user chose, such as a benchmark's."""
    old: Any
    """As YAML has it: an option of an enum by its name."""


CHANGED_DEFAULTS: tuple[ChangedDefault, ...] = (
    ChangedDefault(version=2, key="data.validation_fraction", old=0.0),
    ChangedDefault(version=2, key="benchmarks.*.sample", old="first"),
)
"""One line for each."""

FIRST_FIELDS: dict[str, frozenset[str]] = {
    name: frozenset(names.split())
    for name, names in {
        "AdapterConfig": "method path rank alpha dropout target_modules modules_to_save trainable_tokens "
        "use_rslora init rank_pattern trainable_tokens_from",
        "BenchmarkConfig": "source dataset path language local hub subsets only groups split fewshot_split "
        "num_fewshot limit num_items id keep output_type tasks include_path description question choices "
        "options choices_from continuation target target_index delimiter fewshot_delimiter fewshot_order "
        "scoring average unconditional metrics protocol protocols generation",
        "Config": "description recipe_name steps seed run_dir continues force model quantization adapter "
        "data train merge evaluate benchmarks plan predict export tokenizer leaderboard",
        "DataConfig": "path sources format columns split subset labels streaming regression template "
        "max_length truncation packing validation_fraction limit shuffle_answers",
        "EvaluateConfig": "models batch_tokens shared_prefix invariant verify chat_template max_length "
        "fewshot_seed permutations confidence bootstrap_samples cache",
        "Example": "id subset description shots fewshot_delimiter delimiter questions continuations choices "
        "target unconditional rotations",
        "GenerationConfig": "max_new_tokens stop temperature extract pattern",
        "HubConfig": "name columns",
        "LocalConfig": "files header beside unfold quoting columns",
        "MergeConfig": "dtype max_shard_size tolerance probe_size probe_length batch_size",
        "ModelConfig": "path task dtype device attention revision architecture tokenizer pad_token init",
        "ProtocolConfig": "description question continuation delimiter fewshot_delimiter fewshot_order "
        "num_fewshot scoring average metrics",
        "QuantizationConfig": "method double_quant compute_dtype int8_threshold skip_modules",
        "Shot": "question answer",
        "SourceConfig": "path weight format columns split subset template limit",
        "TokenizerConfig": "vocab_size num_new_tokens pieces add_ascii min_frequency max_piece_length "
        "character_coverage",
        "TrainConfig": "max_steps num_epochs learning_rate lora_plus_ratio lr_scheduler warmup_steps "
        "weight_decay max_grad_norm per_device_batch_size max_tokens_per_batch gradient_accumulation_steps "
        "group_by_length gradient_checkpointing deterministic logging_steps save_steps save_total_limit keep "
        "score_on patience report_to",
    }.items()
}
"""Dataclass -> the fields that it had in version 1. Never changed: names of runs were made of these."""


def hashed(value: Any, key: str) -> dict[str, Any]:
    """The values of a section that go into a fingerprint.

    A field that version 1 didn't have is left out where its value does what version 1 did.

    Args:
        value: a section, or another dataclass of `FIRST_FIELDS`.
        key: its dotted key, with `*` for a name that the user chose; "" where it has none.
    """
    return _without_later(asdict(value), type(value), key, named=False)


def named(values: Mapping[str, Any], schema: type, key: str, *, as_written: bool = False) -> dict[str, Any]:
    """The values of a section that go into the name of a run, for which defaults count as in version 1.

    Args:
        values: the section as YAML has it.
        schema: its dataclass.
        key: its dotted key.
        as_written: an old default that is written out counts as version 1 had it, not as a value of its own.
    """
    return _without_later(values, schema, key, named=True, as_written=as_written)


def completed(values: Mapping[str, Any], schema: type, key: str, version: int) -> dict[str, Any]:
    """A section that an earlier version has written, the keys that it lacks filled as that version meant.

    Args:
        values: the section as its config.yaml has it.
        schema: its dataclass today.
        key: its dotted key.
        version: of the configuration that wrote it.
    """
    filled = dict(values)
    for field in fields(schema):
        path = _joined(key, field.name)
        if field.name not in filled:
            changed = changed_default(path)
            known = changed is not None and changed.version > version
            filled[field.name] = changed.old if changed is not None and known else _default(field)
        else:
            filled[field.name] = _each(
                filled[field.name], schema, field.name, path, partial(completed, version=version)
            )
    return {name: value for name, value in filled.items() if value is not MISSING}


@cache
def changed_default(key: str) -> ChangedDefault | None:
    """What is known of a dotted key's earlier default; None: it has always been today's."""
    words = key.split(".")
    for changed in CHANGED_DEFAULTS:
        pattern = changed.key.split(".")
        if len(pattern) == len(words) and all(
            a in ("*", b) or b == "*" for a, b in zip(pattern, words, strict=True)
        ):
            return changed
    return None


def kept_defaults(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], schema: type, version: int, key: str = ""
) -> dict[str, Any]:
    """Dotted keys that an earlier run left at what was the default then, and that we leave at today's.

    Args:
        ours: a section, or the whole configuration, as YAML has it.
        theirs: the same of the earlier run, completed.
        schema: its dataclass.
        version: of the earlier run's configuration.
        key: dotted key of the section.

    Returns:
        The earlier run's values by these keys.
    """
    values: dict[str, Any] = {}
    for field in fields(schema):
        if field.name not in ours or field.name not in theirs:
            continue
        path, mine, other = _joined(key, field.name), ours[field.name], theirs[field.name]
        container, inner = _inner(schema, field.name)
        changed = changed_default(path)
        if changed is not None and changed.version > version:
            if mine == _default(field) and other == changed.old:
                values[path] = other
        elif inner is not None and isinstance(mine, Mapping) and isinstance(other, Mapping):
            pairs = {path: (mine, other)}
            if container is dict:
                pairs = {f"{path}.{name}": (mine[name], other[name]) for name in mine if name in other}
            for inner_key, (a, b) in pairs.items():
                values |= kept_defaults(a, b, inner, version, inner_key)
    return values


def signed(text: str) -> str:
    """A configuration as text, with a last line that names its version and its checksum."""
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return f"{text}# configuration version {CONFIG_VERSION}, sha256 of the lines above: {digest}\n"


def version_of(text: str, where: str) -> int:
    """The version that a config.yaml names in its last line; 1 where it has no such line.

    Raises:
        ConfigError: the text isn't what was signed, or a later version wrote it.
    """
    *lines, last = text.removesuffix("\n").split("\n")
    if not last.startswith("#"):
        return 1
    above = "".join(f"{line}\n" for line in lines)
    words = last.split()
    version = int(words[3].rstrip(",")) if len(words) > 3 and words[3].rstrip(",").isdecimal() else 0
    if version > CONFIG_VERSION:
        raise ConfigError(f"{where}: written by a later version of this program (install that one)")
    digest = hashlib.sha256(above.encode("utf-8")).hexdigest()
    if words[-1] != digest:
        raise ConfigError(
            f"{where}: changed since the run wrote it (undo the change, or choose another run_dir)"
        )
    return version


def _without_later(
    values: Mapping[str, Any], schema: type, key: str, *, named: bool, as_written: bool = False
) -> dict[str, Any]:
    first = FIRST_FIELDS.get(schema.__name__, frozenset())
    treat = partial(_without_later, named=named, as_written=as_written)
    kept: dict[str, Any] = {}
    for field in fields(schema):
        if field.name not in values:
            continue
        value, path = values[field.name], _joined(key, field.name)
        changed, default = changed_default(path), _default(field)
        if field.name not in first:
            unchanged = default if named or changed is None else changed.old
            if _plain(value) == unchanged:
                continue
        elif named and changed is not None and _plain(value) == default:
            value = changed.old
        elif named and changed is not None and _plain(value) == changed.old and not as_written:
            value = {"given": changed.old}
        former = FORMER_ENUMS.get((schema.__name__, field.name))
        if former is not None and not named and value in former.__members__:
            value = former[value]
        kept[field.name] = _each(value, schema, field.name, path, treat)
    return kept


def _each(value: Any, schema: type, name: str, key: str, treat: Treat) -> Any:
    """A field's value with `treat` applied to each section in it."""
    kind, inner = _inner(schema, name)
    if inner is None:
        return value
    if kind is dict and isinstance(value, Mapping):
        sections = {name: (section, f"{key}.{name}") for name, section in value.items()}
        return {
            name: treat(section, inner, path) if isinstance(section, Mapping) else section
            for name, (section, path) in sections.items()
        }
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return [treat(section, inner, key) if isinstance(section, Mapping) else section for section in value]
    return treat(value, inner, key) if isinstance(value, Mapping) else value


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


@cache
def _inner(schema: type, name: str) -> tuple[type | None, type | None]:
    """Container and dataclass of a field's sections: (dict, SourceConfig); (None, None) for plain values."""
    hint = _hints(schema)[name]
    container = get_origin(hint) if get_origin(hint) in (dict, list, tuple) else None
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return container, candidate
    return None, None


def _default(field: "Field[Any]") -> Any:
    if field.default is not MISSING:
        return _plain(field.default)
    if field.default_factory is not MISSING:
        return _plain(field.default_factory())
    return MISSING


def _plain(value: Any) -> Any:
    """A value as YAML has it."""
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
