"""What a PASS must have been able to see. Standard library only."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Sensitivity"]


class Sensitivity(NamedTuple):
    """A leak of so many objects, or bytes of malloc, a run."""

    objects: float
    native_bytes: float = 4096.0

    @classmethod
    def of(cls, option: str) -> Sensitivity:
        """From what the option ``--sensitivity`` keeps: ``"1,4096"``, or ``"1"``."""
        return cls(*map(float, option.split(",")))

    def __str__(self) -> str:
        return f"{self.objects:.15g},{self.native_bytes:.15g}"
