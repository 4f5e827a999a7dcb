"""The inside of lib.run and lib.stage: parameters, plans, reuse keys, stages on disk."""
