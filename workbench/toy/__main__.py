"""`python -m workbench.toy` writes the committed files anew (the base model is `recipe=toy-pretrain`'s)."""

from pathlib import Path

from workbench.toy.files import write

if __name__ == "__main__":
    write(Path(__file__).parent)
