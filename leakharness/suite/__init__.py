"""A whole test suite's memory: traces, hotspots, the investigation. Pure, and without pytest."""
