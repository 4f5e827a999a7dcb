"""The oracle: a real model behind an OpenAI-compatible endpoint, with every call in a ledger."""
