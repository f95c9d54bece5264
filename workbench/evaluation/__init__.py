"""Scores any Hugging Face model on benchmarks that configuration files describe.

The forms of a benchmark item: a Row of the benchmark's file is rendered, without a tokenizer, to an Example.
With prompts that fit into the context of a certain model, the Example is an Item; its tokens are one or
several TokenRequests. The model gives a Likelihood for each request, and the Likelihoods form the Answer,
which is cached. The metrics turn the Answer into a Prediction, and all Answers into a Score. Importing this
package alone loads no library.
"""
