"""The version, in one place: the package, its certificates and its commands say the same."""

__version__ = "0.1.0"
