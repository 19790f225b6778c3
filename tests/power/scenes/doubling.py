"""Stores in C and buffers whose room is doubled whenever it is full: nothing but steps shows that they grow."""

import ctypes

from leakharness import Run, Scenario

ENTRY = 64
libc = ctypes.CDLL(None)
libc.realloc.restype = ctypes.c_void_p
libc.realloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Table:
    """A table of the C library's memory, which the heap does not show."""

    def __init__(self) -> None:
        self.room, self.used, self.memory = 8, 0, libc.realloc(None, 8 * ENTRY)

    def add(self) -> None:
        if self.used == self.room:
            self.room *= 2
            self.memory = libc.realloc(self.memory, self.room * ENTRY)
        self.used += 1


table = Table()
in_c = Scenario("in-c")


@in_c.mode("leaky", must="FAIL", abort="none")
def in_c_leaky(run: Run) -> None:
    table.add()


@in_c.mode("stops", must="PASS", default=True, abort="none")
def in_c_stops(run: Run) -> None:
    if table.used < 1_000:
        table.add()


@in_c.mode("cache-500", must="PASS", abort="none")
def in_c_cache_500(run: Run) -> None:
    """Full after 500 runs; what comes then takes the place of something."""
    if table.used < 500:
        table.add()


@in_c.mode("cache-2000", must="PASS", abort="none")
def in_c_cache_2000(run: Run) -> None:
    if table.used < 2_000:
        table.add()


buffer, filled = bytes(64), 0
in_bytes = Scenario("in-bytes")


@in_bytes.mode("leaky", must="FAIL", abort="none")
def in_bytes_leaky(run: Run) -> None:
    fill(filled + 40)


@in_bytes.mode("stops", must="PASS", default=True, abort="none")
def in_bytes_stops(run: Run) -> None:
    fill(min(filled + 40, 60_000))


def fill(needed: int) -> None:
    global buffer, filled
    filled = needed
    if needed > len(buffer):
        buffer = bytes(2 * len(buffer))


sessions: dict[int, list[int]] = {}
in_a_store = Scenario("in-a-store")


@in_a_store.mode("stops", must="PASS", default=True, abort="none")
def in_a_store_stops(run: Run) -> None:
    """A list that grows by doublings inside of a store that is cut back."""
    sessions.setdefault(0, []).append(run.index)
    if len(sessions[0]) > 700:
        sessions.clear()


@in_a_store.mode("cache-500", must="PASS", abort="none")
def in_a_store_500(run: Run) -> None:
    drop_oldest(500, run.index)


@in_a_store.mode("cache-2000", must="PASS", abort="none")
def in_a_store_2000(run: Run) -> None:
    drop_oldest(2_000, run.index)


def drop_oldest(most: int, index: int) -> None:
    sessions[index] = []
    if len(sessions) > most:
        del sessions[next(iter(sessions))]
