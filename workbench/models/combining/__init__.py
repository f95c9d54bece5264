"""Makes one adapter out of several."""
