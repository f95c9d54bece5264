"""Checks answers with other packages, in processes that can be ended where an answer takes for ever."""
