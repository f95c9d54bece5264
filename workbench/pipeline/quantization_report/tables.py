"""Shows a quantization report as tables of 80 columns, and as Markdown."""

from workbench.leaderboard import formatting
from workbench.leaderboard.board import UNSURE
from workbench.leaderboard.compare_results import ComparedBenchmark
from workbench.leaderboard.outputs import markdown as markdown_tables
from workbench.leaderboard.outputs.texts import markdown as escaped
from workbench.leaderboard.shown_table import Table
from workbench.pipeline.inspection.quantization_ways import GGUF
from workbench.pipeline.quantization_report.measure import shown_name
from workbench.pipeline.quantization_report.report import Line, Report

NOT_MEASURED = "-"


def tables(report: Report) -> list[Table]:
    """Return the table of sizes, divergences and speeds, then a table of scores for each benchmark."""
    benchmarks = [row.benchmark for line in report.lines if line.comparison for row in line.comparison.rows]
    return [_costs(report), *(_scores(report, name) for name in dict.fromkeys(benchmarks))]


def markdown(report: Report) -> str:
    """Return the report as Markdown: its tables, and the adapter's gain if it was measured."""
    parts = [f"# What quantizing {escaped(report.model)} costs"]
    for table in tables(report):
        body = [[escaped(cell) for cell in row] for row in table.rows]
        parts += [f"## {escaped(table.title)}", "\n".join(markdown_tables.table(table.header, body))]
        parts += ["\n".join(map(escaped, table.notes))] if table.notes else []
    if report.gains:
        parts.append("## The adapter's gain")
        parts.append("\n".join(f"- {escaped(gain.sentence)}" for gain in report.gains))
    return "\n\n".join(parts) + "\n"


def _costs(report: Report) -> Table:
    """Return the table of sizes, divergences, speeds and memory."""
    rows = [
        [
            shown_name(line.measured.number_format),
            size(line.measured.num_bytes),
            *_fidelity(line),
            *_speed(line),
        ]
        for line in report.lines
    ]
    header = ["held as", "size", "KL a token", "same token", "prompt", "decoded", "memory"]
    title = f"{report.model}: size, divergence, speed"
    return Table(title=title, header=header, rows=rows, notes=_notes(report))


def size(num_bytes: float) -> str:
    """Return a number of bytes as text with its unit (kB, MB or GB), as in `1.23 GB`."""
    unit = "GB" if num_bytes >= 1e9 else "MB" if num_bytes >= 1e6 else "kB"
    return f"{num_bytes / {'GB': 1e9, 'MB': 1e6, 'kB': 1e3}[unit]:.3g} {unit}"


def _fidelity(line: Line) -> list[str]:
    fidelity = line.fidelity
    if fidelity is None:
        return [NOT_MEASURED, NOT_MEASURED]
    spread = fidelity.kl_interval
    half = f" ± {(spread[1] - spread[0]) / 2:.1g}" if spread else ""
    return [f"{fidelity.kl:.2g}{half}", f"{100 * fidelity.agreement:.1f}%"]


def _speed(line: Line) -> list[str]:
    speeds = line.speeds
    if speeds is None:
        return [NOT_MEASURED] * 3
    rates = (speeds.prompt_tokens_per_second, speeds.decoded_tokens_per_second)
    return [*(formatting.measured("tokens_per_second", rate) for rate in rates), size(speeds.peak_bytes)]


def _notes(report: Report) -> list[str]:
    """Return the notes that explain the columns, in lines of at most 80 characters."""
    notes = ["size: of the weights on disk."]
    whole = report.lines[0]
    if fidelity := whole.fidelity:
        texts = f"{fidelity.num_tokens:,} tokens of {fidelity.num_texts} texts"
        notes += [
            "KL: divergence of the next token's distribution from the unquantized model's,",
            "in nats, with 95% confidence; same token: the most likely one is the same",
            f"({texts}).",
        ]
    if whole.speeds:
        count = len(whole.speeds.rounds)
        notes += [
            f"prompt, decoded: tokens a second of one prompt on this machine, median of {count}.",
            "memory: peak of a process that loads and runs the model.",
        ]
    if any(line.measured.number_format in GGUF for line in report.lines):
        notes.append("GGUF: the file's weights, computed in float32 here; llama.cpp isn't timed.")
    return notes


def _scores(report: Report, benchmark: str) -> Table:
    """Return the table of one benchmark's scores, and their differences from the unquantized model's."""
    compared = [_row(line, benchmark) for line in report.lines]
    is_share = next(row.is_share for row in compared if row)
    rows, notes = [], []
    for line, row in zip(report.lines, compared, strict=True):
        name, score = shown_name(line.measured.number_format), line.measured.results[benchmark]
        rows.append([name, formatting.number(score.value, is_share), *_difference(row)])
        notes += [f"{name}: {row.problem}"] if row and row.problem else []
    score = report.lines[0].measured.results[benchmark]
    return Table(
        title=f"{benchmark}: {formatting.metric(score.metric)}, {score.num_items:,} items",
        header=["held as", "score", "change", "gained", "lost", "p, corrected"],
        rows=rows,
        notes=notes,
    )


def _row(line: Line, benchmark: str) -> ComparedBenchmark | None:
    rows = line.comparison.rows if line.comparison else []
    return next((row for row in rows if row.benchmark == benchmark), None)


def _difference(row: ComparedBenchmark | None) -> list[str]:
    """Return the cells of a difference: change with interval, items gained, items lost, p with verdict."""
    difference = row.difference if row else None
    if row is None or difference is None or difference.value is None:
        return [""] * 4
    change = formatting.change(difference.value, row.is_share)
    if difference.low is not None and difference.high is not None:
        change += f" ({formatting.interval((difference.low, difference.high), row.is_share, signed=True)})"
    p_value = "" if difference.p_adjusted is None else formatting.p_value(difference.p_adjusted)
    verdict = "" if difference.verdict == UNSURE else f" {difference.verdict}"
    return [change, str(difference.gained), str(difference.lost), f"{p_value}{verdict}".strip()]
