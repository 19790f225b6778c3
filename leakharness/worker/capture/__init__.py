"""The heap walker of the measured process: every object, every edge, names for the edges, one file."""
