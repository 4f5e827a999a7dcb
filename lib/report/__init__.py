"""What a reader sees: tables of a run, executed notebooks as pages, and the report that holds them all."""
