"""How each kind of benchmark is answered: multiple choice, generation, classification, perplexity."""
