"""`python -m workbench.toy` writes the committed data again (`recipe=toy-pretrain` trains the base model)."""

from pathlib import Path

from workbench.toy.files import write

if __name__ == "__main__":
    write(Path(__file__).parent)
