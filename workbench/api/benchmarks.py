"""Benchmarks by name, read from their YAML files without Hydra."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from workbench.config.benchmark import BenchmarkConfig, check_benchmark
from workbench.errors import ConfigError
from workbench.plain_values import Folder, section
from workbench.shipped import PACKAGE, shipped

PACKAGE_LINE = re.compile(r"^# @package benchmarks\.(\w+)", re.MULTILINE)
TOY_FILE = re.compile(r"\$\{toy:([\w./-]+)\}")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with its settings, under the name that its scores will have."""

    name: str
    config: BenchmarkConfig

    def __repr__(self) -> str:
        """Name and what is usually set, in a line."""
        config = self.config
        return (
            f"Benchmark({self.name!r}, {config.output_type.name}, path={config.path!r}, "
            f"num_fewshot={config.num_fewshot}, limit={config.limit}, protocol={config.protocol!r})"
        )


def load_benchmark(benchmark: Folder, *, name: str | None = None, **settings: Any) -> Benchmark:
    """A benchmark that is shipped, or one of your own.

        load_benchmark("cmmlu", path="CMMLU", num_fewshot=5, limit=20, protocol="lm-eval")

    Args:
        benchmark: Its name, of those shipped or in ./conf/benchmark, or a YAML file.
        name: What its scores are called; None: its own name.
        settings: Fields of `BenchmarkConfig`, such as path, num_fewshot, limit (items per subset), protocol.

    Raises:
        ConfigError: No such benchmark or field, or a value that the field doesn't take.
    """
    file = _file(benchmark)
    text = file.read_text("utf-8")
    own_name = found[1] if (found := PACKAGE_LINE.search(text)) else file.stem
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: not a benchmark (a benchmark maps keys to values)")
    if "defaults" in values:
        raise ConfigError(f"{file}: names several benchmarks ({', '.join(map(str, values['defaults']))})")
    values = _overridden(values, settings)
    if isinstance(path := values.get("path"), str):
        values["path"] = TOY_FILE.sub(lambda toy: str(PACKAGE / "toy" / toy[1]), path)
    chosen = Benchmark(name or own_name, section(BenchmarkConfig, values, f"benchmarks.{name or own_name}"))
    check_benchmark(chosen.name, chosen.config)
    return chosen


def by_name(benchmarks: Sequence[Benchmark | str] | Benchmark | str) -> dict[str, BenchmarkConfig]:
    """Name -> benchmark of one or several; texts are loaded.

    Raises:
        ConfigError: Two have one name, or there is none.
    """
    several = [benchmarks] if isinstance(benchmarks, Benchmark | str) else benchmarks
    chosen: dict[str, BenchmarkConfig] = {}
    for entry in several:
        benchmark = load_benchmark(entry) if isinstance(entry, str) else entry
        if benchmark.name in chosen:
            raise ConfigError(f"benchmarks: {benchmark.name!r} comes twice (load_benchmark(..., name=...))")
        chosen[benchmark.name] = benchmark.config
    if not chosen:
        raise ConfigError("benchmarks: none (load_benchmark(...) makes one)")
    return chosen


def _file(benchmark: Folder) -> Path:
    """The YAML file of a benchmark; one in ./conf/benchmark comes before a shipped one of the same name."""
    path = Path(benchmark)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"benchmark: no such file {str(path)!r}")
        return path
    folders = (shipped("conf") / "benchmark", Path("conf") / "benchmark")
    files = {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}
    if str(benchmark) not in files:
        close = get_close_matches(str(benchmark), files, 3)
        way_out = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(files))}"
        raise ConfigError(f"benchmark: no benchmark {str(benchmark)!r} ({way_out})")
    return files[str(benchmark)]


def _overridden(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the settings in their place; a mapping inside keeps the keys that aren't set."""
    merged = dict(values)
    for key, value in settings.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _overridden(merged[key], value) if both else value
    return merged
