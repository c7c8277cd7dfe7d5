"""What the house promises, as claims that can fail."""
