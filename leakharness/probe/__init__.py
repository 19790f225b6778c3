"""The part of leakharness that lives in the measured process: standard library only, and only what it needs."""
