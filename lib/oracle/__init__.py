"""What TAPIR asks of a strong model; every call is in the ledger."""

from lib.oracle.llm import LLMOracle

__all__ = ["LLMOracle"]
