"""Methods compared over prompts, with intervals: python -m benchmarks.evaluate --help."""
