"""Errors, intervals, tests and power of scores, on numpy arrays, without torch.

    intervals       one score: standard error and interval, by cluster too
    clusters        labels of clusters and subsets as numbers, weights and errors
    paired          two models on the same items: difference, interval, exact test (`compare_paired`)
    binary_pairs    all pairs of many models at once, items right or wrong
    sign_flip       the exact sign-flip test behind clusters, weights and graded scores
    label_metrics   differences of F1, macro F1 and MCC
    ratio           differences of bits per byte and other ratios of sums
    non_inferiority how much a second model may have lost (`most_lost`)
    means           chance-normalised means over benchmarks, and their differences
    seeds           several seeds of one recipe: these checkpoints, and the recipe
    family          which comparisons a leaderboard makes, and the correction for their number
    ranks           rank intervals
    tie_letters     letters that rows share where no difference is shown
    power           the smallest difference that a test finds 4 times out of 5
    sequential      tests that may stop as soon as a difference is decided
    audit           what a random sample of repeated items proves

Differences are the second model's score minus the first model's. A difference is shown exactly where the
interval excludes 0, except where a result has a `reason` for no verdict. `alpha` is the level of the single
test, that is the family's error rate divided by its size.
"""
