"""The command line: typer only. Each module of this package adds its commands in ``register(app)``."""
