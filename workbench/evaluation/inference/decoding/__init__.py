"""Parts of the decoder: order of the prompts, slots of the cache, steps, and the choice of tokens."""
