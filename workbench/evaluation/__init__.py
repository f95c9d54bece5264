"""Scores of any Hugging Face model on benchmarks described by data. Importing this package costs nothing.

What becomes of an item: a Row of the benchmark's file is rendered, without a tokenizer, into an Example; as
a certain model is shown it that is an Item, and in its tokens one or several TokenRequests; each gives a
Likelihood, and all of them the Answer, which is kept; what the metrics make of it is the Prediction, and of
all of these the Score.
"""
