"""The docs' and the README's tables, written from the results: see `__main__`."""
