"""The quantization_report section: what each number format of a model's weights costs."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.names import check_once
from workbench.config.ranges import check_ranges, number


class NumberFormat(Enum):
    """Number format of a model's weights: unquantized, of bitsandbytes, or of a GGUF file."""

    none = "none"
    int8 = "int8"
    nf4 = "nf4"
    fp4 = "fp4"
    f16 = "f16"
    q8_0 = "q8_0"
    q5_1 = "q5_1"
    q5_0 = "q5_0"
    q4_1 = "q4_1"
    q4_0 = "q4_0"


@dataclass(kw_only=True)
class QuantizationReportConfig:
    r"""recipe=quantization-report: one model unquantized, in 8 and 4 bits, and as GGUF, on the same items.

    Example:
        python -m workbench recipe=quantization-report run_dir=runs/NAME \
            'benchmark=[cmmlu]' 'quantization_report.formats=[int8,nf4,q4_0]'
    """

    formats: list[NumberFormat] = field(default_factory=list)
    """Number formats of the weights; each is compared with none, the unquantized model. int8, nf4, fp4:
    bitsandbytes, with the keys of the quantization section. f16 to q4_0: the GGUF file of recipe=export, read
    back into float32. Empty: all that the model can have."""
    num_texts: int = number(64, 1, 10_000)
    """Probe texts, taken from the benchmarks' items: next-token distributions are compared after each
    token."""
    max_tokens: int = number(128, 2, 10_000)
    """Tokens of a probe text that are compared. The distributions of the unquantized model are written to the
    run's folder meanwhile: texts x tokens x vocabulary x 4 bytes at most."""
    rounds: int = number(3, 0, 100)
    """Rounds in which speed and memory are measured, each format but GGUF's in turn, in processes of their
    own. 0: not measured."""
    gain: bool = True
    """true also scores the base in each format, if the run has an adapter, to show how much of the adapter's
    gain is lost by quantizing after the merge."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and formats listed twice."""
        check_ranges(self, "quantization_report")
        check_once("quantization_report.formats", self.formats)
