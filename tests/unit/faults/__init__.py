"""Claims about `tests.faults`, which says whether faults are survived."""
