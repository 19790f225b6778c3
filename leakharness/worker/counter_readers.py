"""Functions that read one counter each, by name; and why there is none of the others. Standard library only."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CounterReaders"]


class CounterReaders:
    """``readers`` of the counters that this platform has, each a function without arguments that returns an int;
    ``missing`` says why there is none of the others."""

    def __init__(self) -> None:
        self.readers: dict[str, Callable[[], int]] = {}
        self.missing: dict[str, str] = {}

    def add(self, name: str, reader: Callable[[], int] | str) -> None:
        """Keep ``reader``, or the reason why there is none: what is wrong with the platform shows when it is called.

        A fault of our own (an AttributeError, say) does not pass for a lack of the platform's.
        """
        if isinstance(reader, str):
            self.missing[name] = reader
            return
        try:
            reader()
        except (OSError, ValueError) as exc:
            self.missing[name] = f"{type(exc).__name__}: {exc}"
        else:
            self.readers[name] = reader
