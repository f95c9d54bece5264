"""Reads results of other tools, so that their models are rows of the leaderboard.

    find                 which folders hold results of which tool (`imported_results`)
    harness_folder       a results file of lm-evaluation-harness and its samples -> benchmarks
    harness_model        what a results file tells of the model
    harness_samples      the lines of a samples file -> items
    harness_scores       items of a task or a group -> scores, checked against the reported totals
    harness_predictions  the same lines with all texts, for questions shown one by one
    compass_folder       predictions and results of OpenCompass -> benchmarks
    compass_items        a predictions file of OpenCompass -> items
    scores               items -> scores
    alignment            ids and order of another run's items with the same prompts

leaderboard/imported_items.py defines what an import contains. No code of a file is run. Names and texts come
from the other tool, so code that shows them calls `shown.clean`.
"""
