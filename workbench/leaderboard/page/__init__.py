"""Writes the leaderboard as one HTML file: scores, ranks, tests, and every item of any two models.

`write` takes a `Board` and an `ItemTexts`. Models and scores are JSON; the rest is packed (`containers`) and
unpacked by the browser when a reader looks at it. `size_limit` decides what fits. Besides the fields of a
`Board`, the page shows these facts of a model where it has them:

- `facts["curves"]`: {name: [[step, value], ...]}, such as loss and eval_loss.
- `facts["contamination"]`: {benchmark: {num_items, num_short, found: [{id, row, kind, share, longest}, ...],
  clean: {metric: {value, interval, num_items}}}}, as in contamination.json, `clean` of this model alone.
"""

from workbench.leaderboard.page.document import PAGE, html, write
from workbench.leaderboard.page.texts import NOT_CHOSEN, ColumnTexts, ItemTexts, NoTexts

__all__ = ["NOT_CHOSEN", "PAGE", "ColumnTexts", "ItemTexts", "NoTexts", "html", "write"]
