"""One file for each wire dialect; none knows another."""
