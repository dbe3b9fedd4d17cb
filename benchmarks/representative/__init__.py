"""Representative interpretations of small networks: ``python -m benchmarks.representative``."""
