"""The machinery behind the pytest plugin; nothing of it is imported until an option, a marker or a fixture asks."""
