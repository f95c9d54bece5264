"""Generates tiny bilingual data sets, so that the quickstart and the tests run offline.

The pretraining text counts, compares numbers and reviews things on a market, in English and in Chinese. The
base model learns it as plain text. The instruction rows ask for the order of numbers in a form that the
pretraining text doesn't have. The base model knows this order, so an adapter that learns the form improves
the answers about numbers that no training row asks for.

    numbers.py     sentences and questions about numbers
    reviews.py     positive and negative reviews, with negation, and everyday sentences
    files.py       the committed files, which `python -m workbench.toy` writes byte for byte
    data/          the committed rows
    base/          the tokenizer, and the base model that `recipe=toy-pretrain` trains
"""
