"""The shapes of each door: what a request may say and what a reply says."""
