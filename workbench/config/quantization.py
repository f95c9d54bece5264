"""The quantization section: linear layers unquantized, or in 8 or 4 bits (bitsandbytes)."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.model import Dtype
from workbench.config.ranges import check_ranges, number


class QuantizationMethod(Enum):
    """The number format of the linear layers' weights."""

    none = "none"
    int8 = "int8"
    nf4 = "nf4"
    fp4 = "fp4"


@dataclass(kw_only=True)
class QuantizationConfig:
    r"""Number format of the linear layers' weights (bitsandbytes).

    The output head, embeddings and norms are never quantized; int8 doesn't quantize experts either.

    Example:
        python -m workbench recipe=quickstart quantization=nf4 \
            quantization.double_quant=false
    """

    method: QuantizationMethod = QuantizationMethod.none
    """`quantization=NAME` sets it. none: not quantized. int8: 8 bits, one scale per row (LLM.int8,
    arXiv:2208.07339). nf4, fp4: 4 bits, one scale per 64 weights (QLoRA, arXiv:2305.14314)."""
    double_quant: bool = True
    """nf4 and fp4: true quantizes the scales too, which saves 0.37 bits per weight (QLoRA, section 3)."""
    compute_dtype: Dtype = Dtype.auto
    """nf4 and fp4: number format of matrix products. auto: that of the model."""
    int8_threshold: float = number(6.0, 0, 10**4)
    """int8 on a GPU: input columns with a value beyond this magnitude are multiplied unquantized. 0: no
    column is, so that a score doesn't depend on the other rows of its batch, which
    evaluate.invariant=true prevents at any threshold."""
    skip_modules: list[str] = field(default_factory=list)
    """Further modules that stay unquantized, by the end of their names, as in [down_proj, layers.0.mlp]."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ConfigError: A number is out of its range.
        """
        check_ranges(self, "quantization")
