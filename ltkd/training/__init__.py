"""Training: `fit`, and its parts: set-up of a run, loaders, samplers, the cache of teachers' logits, the history."""
