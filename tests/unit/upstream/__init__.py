"""Claims about `tests.upstream`, which other tests rest on."""
