"""How it is started and kept up."""
