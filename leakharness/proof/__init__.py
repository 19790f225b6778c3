"""What several measurements prove together: a certificate, a proof, a calibration."""
