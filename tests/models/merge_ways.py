"""Ways to merge in tests."""

import pytest

from workbench.models.merging import merge as merging
from workbench.models.merging.adapter_updates import NotStreamable


def only_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge with the whole model in memory."""

    def refuse(job):
        raise NotStreamable("a test")

    monkeypatch.setattr(merging, "planned_merge", refuse)
