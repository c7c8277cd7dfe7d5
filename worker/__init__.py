"""The back: dials providers and webhook receivers, and answers nobody."""
