"""The merged section: a model folder that was made from the base, by any tool."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class MergedConfig:
    r"""recipe=diagnose: what is wrong with a merged model, whichever tool has made it.

    Example:
        python -m workbench recipe=diagnose model.path=BASE \
            adapter.path=ADAPTER merged.path=FOLDER
    """

    path: str | None = None
    """Folder of the merged model. null: `merged` in the run's folder. For recipe=extract: the checkpoint that
    was trained from model.path; null converts the adapter at adapter.path."""
