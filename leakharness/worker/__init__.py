"""What runs in the measured process: the standard library, the scenario, and nothing else."""
