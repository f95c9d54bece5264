"""The predict step: rows of the user in, answers of a model of the run out."""
