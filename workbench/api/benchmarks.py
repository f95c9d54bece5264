"""Loads benchmarks from their YAML files, without Hydra."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.config.benchmark import BenchmarkConfig, check_benchmark
from workbench.errors import ConfigError
from workbench.plain_values import Folder, check_known, section
from workbench.shipped import PACKAGE, shipped

PACKAGE_LINE = re.compile(r"^# @package benchmarks\.(\w+)", re.MULTILINE)
TOY_FILE = re.compile(r"\$\{toy:([\w./-]+)\}")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark to score a model on: its name in the scores, and its settings."""

    name: str
    config: BenchmarkConfig
    """Where the rows are, how a row becomes a prompt, and how answers are scored."""

    def __repr__(self) -> str:
        """Return the name and the settings that are changed most often, on one line."""
        config = self.config
        return (
            f"Benchmark({self.name!r}, {config.output_type.name}, path={config.path!r}, "
            f"num_fewshot={config.num_fewshot}, limit={config.limit}, protocol={config.protocol!r})"
        )


def load_benchmark(benchmark: Folder, *, name: str | None = None, **settings: Any) -> Benchmark:
    """Load a shipped benchmark, or one of your own.

        load_benchmark("cmmlu", path="CMMLU", num_fewshot=5, limit=20, protocol="lm-eval")

    Args:
        benchmark: Name of a shipped benchmark or of one in ./conf/benchmark, or a YAML file.
        name: Name in the scores; None: the benchmark's own name.
        settings: Fields of `BenchmarkConfig`, such as path, num_fewshot, limit (items per subset), protocol.

    Raises:
        ConfigError: There is no such benchmark or field, the field doesn't accept the value, or the file
            lists several benchmarks.
    """
    file = _file(benchmark)
    text = file.read_text("utf-8")
    own_name = match[1] if (match := PACKAGE_LINE.search(text)) else file.stem
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: is not a benchmark (a benchmark maps keys to values)")
    if "defaults" in values:
        raise ConfigError(f"{file}: names several benchmarks ({', '.join(map(str, values['defaults']))})")
    values = _overridden(values, settings)
    if isinstance(path := values.get("path"), str):
        values["path"] = TOY_FILE.sub(lambda toy: str(PACKAGE / "toy" / toy[1]), path)
    chosen = Benchmark(name or own_name, section(BenchmarkConfig, values, f"benchmarks.{name or own_name}"))
    check_benchmark(chosen.name, chosen.config)
    return chosen


def by_name(benchmarks: Sequence[Benchmark | str] | Benchmark | str) -> dict[str, BenchmarkConfig]:
    """Return name -> settings of one or several benchmarks; those given by name or file are loaded.

    Raises:
        ConfigError: Two benchmarks have the same name, or no benchmark is given.
    """
    several = [benchmarks] if isinstance(benchmarks, Benchmark | str) else benchmarks
    configs: dict[str, BenchmarkConfig] = {}
    for benchmark in (load_benchmark(entry) if isinstance(entry, str) else entry for entry in several):
        if benchmark.name in configs:
            raise ConfigError(f"benchmarks: {benchmark.name!r} comes twice (load_benchmark(..., name=...))")
        configs[benchmark.name] = benchmark.config
    if not configs:
        raise ConfigError("benchmarks: none given (load_benchmark(...) makes one)")
    return configs


def _file(benchmark: Folder) -> Path:
    """Return the YAML file of a benchmark, which is given by its name or as the file."""
    path = Path(benchmark)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"benchmark: no such file {str(path)!r}")
        return path
    files = benchmark_files()
    check_known(str(benchmark), files, "benchmark", "benchmark")
    return files[str(benchmark)]


def benchmark_files() -> dict[str, Path]:
    """Return name -> YAML file of all benchmarks; ./conf/benchmark takes precedence over shipped files."""
    folders = (shipped("conf") / "benchmark", Path("conf") / "benchmark")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def _overridden(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a benchmark's fields with the user's settings in place of them.

    In a field that is a mapping, only the keys that the user gives change.
    """
    merged = dict(values)
    for key, value in settings.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _overridden(merged[key], value) if both else value
    return merged
