"""A terminal explorer of snapshots: what is looked up (``model``), and the application (``app``, needs textual)."""
