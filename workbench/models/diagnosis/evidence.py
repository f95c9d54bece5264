"""Groups the fits of a merged model's tensors by the adapter's effect on the tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.models.checkpoints.model_folder import is_embedding, is_head
from workbench.models.diagnosis.adapter_layers import AdapterLayers
from workbench.models.diagnosis.least_squares import Fit, Kind

MOST_FOREIGN = 0.5
"""If a larger share of tensors is unexplained, the merged model counts as another model."""


@dataclass
class Evidence:
    """What a diagnosis of the weights is based on: the fit of each tensor, and the adapter."""

    fits: Sequence[Fit]
    """How each tensor of the merged model relates to base and adapter."""
    adapter: AdapterLayers | None
    """None if the merged model is compared with its base only."""
    is_tied: bool
    """Whether the base shares input and output embedding."""
    trained_on: str = ""
    """Quantization of the base during the adapter's training; empty if none."""

    def of(self, *kinds: Kind, among: Sequence[Fit] | None = None) -> list[Fit]:
        """Return the fits of these kinds, out of all fits or of `among`."""
        return [fit for fit in (self.fits if among is None else among) if fit.kind in kinds]

    @cached_property
    def updated(self) -> list[Fit]:
        """Return the fits of tensors that the adapter updates, without updates of zero.

        A tensor that the merged model lacks is among them, whatever its update.
        """
        modules = self.adapter.tensors.modules if self.adapter else {}
        return [fit for fit in self.fits if fit.name in modules and not self._is_zero(fit)]

    @cached_property
    def zero(self) -> list[Fit]:
        """Return the fits of tensors that the merged model has and whose update by the adapter is zero."""
        modules = self.adapter.tensors.modules if self.adapter else {}
        return [fit for fit in self.fits if fit.name in modules and self._is_zero(fit)]

    @cached_property
    def replaced(self) -> list[Fit]:
        """Return the fits of tensors that the adapter replaces as a whole or in some rows."""
        if self.adapter is None:
            return []
        names = self.adapter.tensors.replaced.keys() | self.adapter.tensors.rows.keys()
        return [fit for fit in self.fits if fit.name in names]

    @cached_property
    def plain(self) -> list[Fit]:
        """Return the fits of tensors that the adapter doesn't change."""
        return [fit for fit in self.fits if not fit.is_adapted]

    @cached_property
    def body(self) -> list[Fit]:
        """Return the fits of all tensors without embeddings, heads, `replaced` and `zero`.

        Norms and biases are among them, the final norm too, and tensors that the merged model lacks.
        """
        inner = [fit for fit in (*self.plain, *self.updated) if not is_head(fit.name)]
        return [fit for fit in inner if not is_embedding(fit.name)]

    @cached_property
    def is_foreign(self) -> bool:
        """Return whether most fits in `body` are unexplained, or any of them and most of `updated`.

        Most: a share of more than MOST_FOREIGN. Of `body`, missing tensors and those of another shape don't
        count. Unexplained tensors are neither the base's nor base + update in any known way.
        """
        matrices = [fit for fit in self.body if fit.kind not in (Kind.missing, Kind.misshapen)]
        unexplained = self.of(Kind.unexplained, among=matrices)
        updated = self.of(Kind.unexplained, among=self.updated)
        return len(unexplained) > MOST_FOREIGN * max(1, len(matrices)) or (
            len(unexplained) > 0 and len(updated) > MOST_FOREIGN * max(1, len(self.updated))
        )

    @staticmethod
    def _is_zero(fit: Fit) -> bool:
        return fit.kind is not Kind.missing and fit.has_no_update
