"""Side-by-side measurement: ours and a peer in one run, as ratios; `attnkit bench` prints the table."""
