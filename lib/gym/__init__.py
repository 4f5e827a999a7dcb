"""The embedded world: tasks with exact answers, an exact oracle, a student of 1.3 M parameters."""
