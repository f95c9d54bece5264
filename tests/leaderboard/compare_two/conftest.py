"""Makes the writers of other tools' folders and of run folders importable here."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "imports"), str(Path(__file__).parents[1])]
