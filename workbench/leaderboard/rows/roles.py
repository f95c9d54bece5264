"""Defines the roles of the leaderboard's rows, such as base or adapter."""

from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED

IMPORTED = "imported"
"""Role of a model that another tool has scored."""

ROLES = (BASE, IMPORTED, ADAPTER, MERGED, TRAINED)
"""Roles in the order of a run's rows; a model with several roles in several runs has the last of them."""
