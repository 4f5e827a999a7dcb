"""What TAPIR asks of a strong model; every call is in the ledger."""
