"""The embedded world: tasks with exact answers, an exact oracle, a student of 1.3 M parameters."""

EMBEDDED = "gym:"  # how a task of the embedded world begins: "gym:first_two repeat"
