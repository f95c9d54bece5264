"""Makes one adapter out of several, and one model out of several."""
