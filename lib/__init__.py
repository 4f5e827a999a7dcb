"""The machinery behind the notebooks: plain functions on rows."""
