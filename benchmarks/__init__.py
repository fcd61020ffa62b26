"""Speed, as ratios: both sides measured in one run, alternating. `make bench` runs everything and writes the table."""
