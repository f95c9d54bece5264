"""The adapter_info section: properties of an adapter, and angles between two adapters."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class AdapterInfoConfig:
    r"""recipe=adapter-info: rank, scale, norms by layer and origin of the adapter at adapter.path.

    Example:
        python -m workbench recipe=adapter-info adapter.path=runs/NAME/adapter \
            adapter_info.other=runs/OTHER/adapter
    """

    other: str | None = None
    """Folder or hub id of a second LoRA: the angles between both adapters' subspaces are shown."""
    picture: str | None = None
    """SVG file to write: the norm of each layer's update as the shade of a cell."""
