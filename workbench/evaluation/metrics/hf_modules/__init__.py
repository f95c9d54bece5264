"""Provides the metrics as modules of Hugging Face `evaluate`, which work alone, offline and in a Trainer.

from workbench.evaluation.metrics.hf_modules.char_f1 import CharF1
CharF1().compute(predictions=["北京"], references=["北京大学"])
evaluate.load(char_f1.__file__)                # the same, by its file
"""
