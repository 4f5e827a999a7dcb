"""Evaluate students: benchmarks asked for or recorded, metrics and statistics."""
