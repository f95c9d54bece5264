"""A tiny bilingual world that the project makes itself, so that the quickstart and the tests run offline.

Its people count, compare numbers, go to the market and say how it was, in English and in Chinese. A base
model learns that as plain text. The instruction rows then ask questions in a form that the text never has.
What they ask for, the order of numbers, the base has learned, so an adapter's gain holds for numbers that it
was never asked about.

    numbers.py     counting, comparing; the questions
    reviews.py     sentences that praise or complain, with negation, and everyday sentences
    files.py       all committed files: `python -m workbench.toy` writes them anew, byte for byte
    data/, base/   those files, and the base model that `recipe=toy-pretrain` trains
"""
