"""Scenarios: how they are declared, found, and described without being run."""
