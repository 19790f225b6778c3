"""What the tool and a measured process say to each other: the questions, and the values that answer them.

A command is one JSON line, ``[op, argument, …]``. Its answer is one JSON line, ``{"to": op, "answer": {…}}`` or
``{"to": op, "failure": {…}}``.
:mod:`leakharness.worker.codec` writes and reads the lines.

The values are named tuples and not frozen dataclasses, because this module is imported by the measured process: those
would take it 8 ms to make (CPython 3.11; 14 ms on 3.13) of the 400 that a whole measurement takes, these take 1.5.
Standard library only.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from leakharness.errors import LeakHarnessError, NotJudged, UsageError

__all__ = [
    "ALLOCATION_SITES",
    "BASELINE",
    "BIRTHS",
    "BLOCKS",
    "BOUNDED_STORES",
    "CENSUS",
    "C_FUNCTIONS",
    "CONFIRM",
    "DESCRIBE",
    "FINISH",
    "FREEZE",
    "GROWN_CONTAINERS",
    "GROWTH_AFTER_CLEARING",
    "GROWTH_AFTER_CLEARING_DECLARED",
    "IDLE",
    "LOAD",
    "NATIVE_CALLS",
    "READ",
    "READY",
    "READ_CUT_BACK",
    "READ_WITHOUT",
    "REFERENCES",
    "RETENTION",
    "RELEASE_TIMES",
    "RUNS",
    "SECOND_OPINIONS",
    "SELF_TEST",
    "SITES",
    "SNAPSHOT",
    "START",
    "TRACE",
    "Container",
    "Failure",
    "GrownContainer",
    "GrownContainers",
    "Question",
]

Count = Annotated[int, "0 or more"]
"""A number of things."""
Rows = dict[str, tuple[Count, Count]]
"""``{type or "file:line": (objects or bytes, bytes or blocks)}``, as the answer's docstring says."""


class Failure(NamedTuple):
    """An error as strings. ``kind``: ``usage`` where the question cannot be asked so, else ``not_judged``."""

    kind: Literal["usage", "not_judged"]
    reason: str
    detail: str = ""

    @staticmethod
    def of(error: LeakHarnessError) -> Failure:
        kind: Literal["usage", "not_judged"] = "usage" if isinstance(error, UsageError) else "not_judged"
        return Failure(kind, str(error), getattr(error, "detail", ""))

    def error(self) -> LeakHarnessError:
        """The error to raise."""
        if self.kind == "usage":
            return UsageError(self.reason)
        error = NotJudged(self.reason)
        error.detail = self.detail
        return error


class Done(NamedTuple):
    """It was done, and there is nothing to tell."""


class ModeFacts(NamedTuple):
    """One mode of a scenario, as declared. ``missing``: those of its ``needs`` that are not installed there."""

    name: str
    must: Literal["PASS", "FAIL"] | None
    abort: str = "none"
    default: bool = False
    where: str = ""
    needs: dict[str, str] = {}  # noqa: RUF012 - never changed
    needs_target: bool = False
    missing: dict[str, str] = {}  # noqa: RUF012 - never changed


class ScenarioFacts(NamedTuple):
    """One scenario, as declared. ``known``: (match, reason) of each leak that is accepted. ``bounded``: how many
    entries each of these stores of the program may have."""

    name: str
    default: str
    modes: tuple[ModeFacts, ...]
    summary: str = ""
    mimics: str | None = None
    target: str | None = None
    where: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    known: tuple[tuple[str, str], ...] = ()
    bounded: dict[str, Count] = {}  # noqa: RUF012 - never changed


class FileFacts(NamedTuple):
    """What one scenario file declares, or why it could not be read."""

    scenarios: tuple[ScenarioFacts, ...] = ()
    failure: Failure | None = None


class Declarations(NamedTuple):
    """What each file declares, by its path as it was asked for."""

    files: dict[str, FileFacts]


class LoadSpec(NamedTuple):
    """What to load. ``plant`` are the arguments of :class:`leakharness.worker.recorder.Plant`."""

    path: str
    name: str | None = None
    mode: str | None = None
    target: str | None = None
    plant: dict[str, Any] | None = None
    values: bool = False
    """Whether values of the program may be written: of keys, and the texts of its exceptions."""


class Facts(NamedTuple):
    """Who the measured process is, and what it has loaded. ``missing_counters``: counter -> why it is absent."""

    pid: Count
    python: str
    implementation: str
    executable: str
    missing_counters: dict[str, str]
    scenario: ScenarioFacts
    mode: str
    notes: tuple[str, ...] = ()


class Frozen(NamedTuple):
    """Entries of each bounded container that is not full, by its id."""

    bounded: dict[str, Count]


class LabelCount(NamedTuple):
    """Tracked objects under one label since the baseline."""

    born: Count
    retained: Count


class ReadingAnswer(NamedTuple):
    """The counters of one reading, without what is the harness's own; bytes and objects.

    ``declared``: how much of each counter is kept on purpose. ``collected``: objects that only the cyclic collector
    could free, since the baseline. ``census``: ``{type: (objects, shallow bytes)}``, where it was asked for.
    """

    counters: dict[str, int]
    tracked_alive: Count
    tracked: dict[str, LabelCount]
    declared: dict[str, int]
    collected: int
    census: Rows = {}  # noqa: RUF012 - never changed

    def by_label(self) -> dict[str, dict[str, int]]:
        """``{label: {"born": n, "retained": n}}``."""
        return {label: {"born": row.born, "retained": row.retained} for label, row in self.tracked.items()}


class UnownedReferences(NamedTuple):
    """An object of which so many more references (fewer, where negative) are held by no object than at the mark."""

    address: Count
    type: str
    more: int


class ReferencesAnswer(NamedTuple):
    """References that no object holds, against those at the mark: so many more of some objects, so many ``given``
    away of others; the objects, the largest changes first. ``types``: those of extensions whose own deallocator does
    not give the instance's reference to its type back; they are not among the others. ``failed``: why references could
    not be counted, or ""."""

    raised: Count = 0
    given: Count = 0
    rows: tuple[UnownedReferences, ...] = ()
    types: tuple[UnownedReferences, ...] = ()
    failed: str = ""


class BlockCount(NamedTuple):
    """So many blocks of ``size`` bytes with an object of a type ("" for none), of which nothing in the heap refers to
    those that are ``alone``, and only such refer to those ``within``."""

    type: str
    size: Count
    blocks: Count
    alone: Count
    within: Count = 0


class BlocksAnswer(NamedTuple):
    """All blocks in use. ``failed``: why they could not be read, or ""."""

    rows: tuple[BlockCount, ...] = ()
    failed: str = ""


class CensusAnswer(NamedTuple):
    """``{type: (objects, shallow bytes)}`` of what was born since the freeze and is alive."""

    census: Rows


class Container(NamedTuple):
    """A container with a bound. ``grew``: entries since the freeze; 0 where that is not known. ``is_new``: whether it
    was not there at the freeze, or was full."""

    name: str
    size: Count
    bound: Count
    grew: int = 0
    is_new: bool = False


class GrownContainer(NamedTuple):
    """A container that was there at the baseline: where it is in memory, the builtin type that it is or inherits from,
    and its length at the baseline and now."""

    address: Count
    type: str
    before: Count
    now: Count


class GrownContainers(NamedTuple):
    """Containers that have more entries than at the baseline, the most grown first."""

    rows: tuple[GrownContainer, ...] = ()


class BoundedStores(NamedTuple):
    """The stores of which the scenario says how large they become, as they are now."""

    rows: tuple[Container, ...] = ()


class RetentionIn(NamedTuple):
    """A bounded container in which tracked objects stay: how many by label, and bytes of malloc that go with them."""

    name: str
    size: Count
    bound: Count
    tracked: dict[str, Count]
    malloc_bytes: Count


class Retention(NamedTuple):
    """Tracked objects that are alive, by label, since the start of the process; and in which bounded containers."""

    alive: dict[str, Count]
    rows: tuple[RetentionIn, ...] = ()


class CopyCounts(NamedTuple):
    """What emptying containers in a forked copy came to: tracked objects alive then, and by how much counters fell."""

    alive: Count
    objects_fell: int
    blocks_fell: int
    entries_fell: int | None = None


class ClearedAnswer(NamedTuple):
    """Which containers a forked copy emptied, and what it counted then; None where there was no such copy."""

    containers: tuple[Container, ...] = ()
    counts: CopyCounts | None = None


class SnapshotAnswer(NamedTuple):
    """The pid of the forked copy that writes the capture; None where the capture is complete."""

    writer: Count | None


class Holder(NamedTuple):
    """A reference to cut: see :func:`leakharness.worker.cut_edge.confirm`."""

    kind: str
    name: str
    holder: str


class CutAnswer(NamedTuple):
    """What cutting references in a forked copy freed, of how many targets."""

    targets: Count
    freed: Count
    cut: Count
    uncut: tuple[str, ...]
    seconds: float
    error: str | None
    sentence: str


class WithoutKnown(NamedTuple):
    """A forked copy of the measured process, rid of what the verdict leaves out: its counters, tracked objects alive,
    and the bytes that the cut gave back to the allocator of small objects and to malloc."""

    counters: dict[str, int]
    alive: Count
    small_bytes: int = 0
    malloc_bytes: int = 0
    error: str | None = None


class OpinionsAnswer(NamedTuple):
    """Whether there is anybody to ask, and how many tracked objects are alive."""

    asked: bool
    alive: Count


class ObjgraphOpinion(NamedTuple):
    """The types along objgraph's chain from a module, what refers to the object, and its picture as dot."""

    chain: tuple[str, ...] = ()
    holders: tuple[str, ...] | None = None
    dot: str = ""
    failed: str = ""


class GuppyOpinion(NamedTuple):
    """How many objects of a type guppy3 counts, and their bytes; or why it failed, or is not there."""

    type: str = ""
    objects: Count | None = None
    size: Count = 0
    failed: str = ""
    absent: str = ""


class Opinions(NamedTuple):
    """What objgraph and guppy3 said, of those that are there."""

    objgraph: ObjgraphOpinion | None = None
    guppy: GuppyOpinion | None = None


class SitesAnswer(NamedTuple):
    """``{"file:line": (bytes, blocks)}`` of everything allocated since the start of tracing and still alive."""

    sites: Rows


class AllocationSite(NamedTuple):
    """Where so many retained objects were allocated: ``file:line``, innermost first."""

    label: str
    stack: tuple[str, ...]
    objects: Count


class AllocationSites(NamedTuple):
    """Where the retained tracked objects were allocated, the most frequent place first."""

    rows: tuple[AllocationSite, ...]


class Birth(NamedTuple):
    """Where descriptors were opened or threads were started, and how many in a run."""

    file: str
    line: int
    per_run: float


class Births(NamedTuple):
    """The most frequent place first."""

    rows: tuple[Birth, ...] = ()


class CFunctions(NamedTuple):
    """``{"file:line": names}`` of the C functions that are called there."""

    called: dict[str, tuple[str, ...]]


class ReleaseTimes(NamedTuple):
    """Timers that are pending, seconds until the last of them is due, and new objects that carry a time."""

    timers: Count
    last_due_s: float
    stamped: Count


class NativeCall(NamedTuple):
    """A call site that leaves so many bytes a run behind. ``line`` 0: the library says none."""

    function: str
    file: str
    line: Count
    bytes: Count


class NativeCalls(NamedTuple):
    """Whether memray is there, and the sites, most bytes first."""

    asked: bool
    rows: tuple[NativeCall, ...] = ()


class SelfTest(NamedTuple):
    """What is wrong with the tracker, or None."""

    fault: str | None


class Finished(NamedTuple):
    """Torn down. ``notes``: what there is to say about how the runs ended."""

    notes: tuple[str, ...] = ()


A = TypeVar("A")


class Question(Generic[A]):
    """An operation of the measured process, and the type of its answer."""

    __slots__ = ("answer", "op")

    def __init__(self, op: str, answer: type[A]) -> None:
        self.op, self.answer = op, answer


READY = Question("ready", Done)
DESCRIBE = Question("describe", Declarations)
LOAD = Question("load", Facts)
START = Question("start", Done)
RUNS = Question("runs", Done)
FREEZE = Question("freeze", Frozen)
BASELINE = Question("baseline", ReadingAnswer)
READ = Question("read", ReadingAnswer)
REFERENCES = Question("references", ReferencesAnswer)
BLOCKS = Question("blocks", BlocksAnswer)
CENSUS = Question("census", CensusAnswer)
BOUNDED_STORES = Question("bounded_stores", BoundedStores)
RETENTION = Question("retention", Retention)
GROWN_CONTAINERS = Question("grown_containers", GrownContainers)
GROWTH_AFTER_CLEARING = Question("growth_after_clearing", ClearedAnswer)
GROWTH_AFTER_CLEARING_DECLARED = Question("growth_after_clearing_declared", ClearedAnswer)
SNAPSHOT = Question("snapshot", SnapshotAnswer)
CONFIRM = Question("confirm", CutAnswer)
READ_CUT_BACK = Question("read_cut_back", WithoutKnown)
READ_WITHOUT = Question("read_without", WithoutKnown)
SECOND_OPINIONS = Question("second_opinions", OpinionsAnswer)
TRACE = Question("trace", Done)
SITES = Question("sites", SitesAnswer)
ALLOCATION_SITES = Question("allocation_sites", AllocationSites)
BIRTHS = Question("births", Births)
C_FUNCTIONS = Question("c_functions", CFunctions)
IDLE = Question("idle", Done)
RELEASE_TIMES = Question("release_times", ReleaseTimes)

NATIVE_CALLS = Question("native_calls", NativeCalls)
SELF_TEST = Question("self_test", SelfTest)
FINISH = Question("finish", Finished)
