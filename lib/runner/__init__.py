"""The inside of lib.run and lib.runs: parameters, plans, reuse keys, stages on disk."""
