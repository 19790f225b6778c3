"""The judge: readings in, verdict out. Pure."""
