"""Names the roles of rows."""

from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED

IMPORTED = "imported"
"""Role of a model that another tool has scored."""

ROLES = (BASE, IMPORTED, ADAPTER, MERGED, TRAINED)
"""Roles in the order of a run's rows; of a model that has several, the last one is its role."""
