"""Other people's clients, unmodified."""
