"""Measuring one arm: worker process, warm-up, batches, evidence."""
