"""What the replay computes, in plain Python: specification and twin of :mod:`mlutriton.simulator.replay.event_loop`.

Slow (about 12,000 records a second) and without any of the other's data structures: a core is a generator, a flow is an
object that counts its own bytes down, the L2 is a dictionary, and the next event is found by looking at all.

The rules. All times are whole cycles. Events of one cycle act in this order: flows end, then (core, queue) by number.

1. The launch takes its time; then programs in their order go to the unit (a core, or a task's clusters) that falls free
   first, the one of lowest number among equals, each for ``dispatch_cycles``. Programs that find no unit at the launch
   are of a further wave, and each takes ``launch_wave_ns`` more.
2. A core folds records into its scalar time and compute time, hands transfers to its queues without waiting, and waits
   at SYNC for some queues, at barriers and END for all.
3. A queue runs its transfers in order: set-up, then latency, then the bytes flow, of one transfer at a time. Set-up and
   latency go on while the bytes of the transfer before flow: they count from the start of that flow, or from the issue
   if that is later. So a transfer that was issued behind another hides them, and one that was waited for does not. What
   has no bytes that flow (moves that do not touch SRAM) hides nothing, and hides behind nothing.
4. A transfer starts when it is issued and the one before is over; it is charged, and a wait for it is put down to, what
   it takes from there. A LOAD or STORE uses the lines of the L2 when it starts, the lines used longest ago leave. What
   is missing costs DRAM traffic, in granules, more for strided transfers; if nothing is missing, its latency is the
   L2's. Gathers, scatters and vector atomics pass the L2 by; an atomic reads and writes each granule of an item.
5. Flows share DRAM, L2 and the clusters' ports by max-min fairness under the core's own rate; moves share SRAM.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace

from mlutriton.isa.machine import Machine
from mlutriton.isa.trace_format import (
    FLAG_BETWEEN_CLUSTERS,
    FLAG_SRAM,
    LOCAL_START,
    LOCAL_STRIDE_BYTES,
    NO_COMPUTE,
    WAIT_ALL,
    WAIT_COMPUTE,
    WAIT_IO,
    WAIT_MOVE,
    Kind,
    Record,
    unpack,
)
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.state import ATOMIC_ADDRESSES
from mlutriton.simulator.replay.timing import ONE, Cause, timing_parameters

IO, MOVE = 1, 2


@dataclass
class Transfer:
    """A transfer of a queue: what it costs is known once it starts."""

    record: Record
    issued: int
    started: int = 0
    setup: int = 0
    latency: int = 0
    bytes: int = 0
    cap: int = 0  # its core's rate
    weight: int = 0  # of DRAM traffic, in 1/65536 byte a byte
    sram: bool = False
    left: int = 0  # bytes still to flow, in 1/65536
    rate: int = 0


@dataclass
class CacheLine:
    """A line of the L2: its sectors, by number."""

    valid: set[int] = field(default_factory=set[int])
    dirty: set[int] = field(default_factory=set[int])


@dataclass
class CacheUse:
    """What a transfer found in the L2: bytes of it that were not there, and what DRAM has to move for it."""

    missing_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass
class Queue:
    """A DMA queue of a core."""

    number: int
    waiting: list[Transfer] = field(default_factory=list[Transfer])
    current: Transfer | None = None
    timer: int | None = None  # when it starts the first that waits, or the current one's next phase begins
    free: int = 0
    flow_began: int = 0  # of the transfer that was started last; without bytes, when it is done
    phases: dict[Cause, int] = field(default_factory=lambda: defaultdict[Cause, int](int))

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self.waiting and self.current is None


@dataclass
class Core:
    """A core: its times, its queues, and the generator that runs its program."""

    number: int
    idle_since: int
    scalar: int = 0
    compute_free: int = 0
    program: int = -1
    run: Generator[None] | None = None
    instruction: int = 0  # of the record that it has reached
    timer: int | None = None
    awaited: int = 0
    barrier: Kind | None = None
    queues: dict[int, Queue] = field(default_factory=lambda: {IO: Queue(IO), MOVE: Queue(MOVE)})
    causes: dict[Cause, int] = field(default_factory=lambda: defaultdict[Cause, int](int))


class ReferenceReplay:
    """A replay; ``cycles``, ``cores``, ``programs`` and the byte counts hold the result once ``run`` returned.

    ``stalls`` has the cycles by the instruction at whose record they were spent. ``words``, ``starts`` and
    ``cores_per_program`` are those of a ``Trace``.
    """

    def __init__(self, words: list[int], starts: list[int], cores_per_program: int, machine: Machine) -> None:
        self.p = [int(value) for value in timing_parameters(machine)]
        self.traces = [unpack_program(words, start) for start in starts]
        self.members = cores_per_program
        self.now = self.p[timing.LAUNCH_CYCLES]
        self.cycles = self.now
        self.cores = [Core(number, idle_since=self.now) for number in range(self.p[timing.CORES])]
        self.next_program = 0
        self.programs: list[list[int]] = []
        self.flows: list[tuple[Core, Queue, Transfer]] = []
        self.lines: OrderedDict[int, CacheLine] = OrderedDict()  # of the L2, by their use, the latest last
        self.atomics: dict[int, int] = defaultdict(int)
        self.dram_read_bytes = self.dram_write_bytes = self.l2_hit_bytes = 0
        self.stalls: dict[tuple[int, Cause], int] = defaultdict(int)

    def run(self) -> bool:
        """Run to the end; False if cores wait for each other for ever."""
        for core in self.cores:
            core.causes[Cause.LAUNCH] = self.now
        for unit in self.units():
            self.dispatch(unit)
        while (time := min(self.event_times(), default=None)) is not None:
            self.step_to(time)
        for core in self.cores:
            core.causes[Cause.TAIL_IDLE] += self.cycles - core.idle_since
        return all(core.run is None for core in self.cores)

    def event_times(self) -> Iterator[int]:
        """When anything happens next."""
        for core in self.cores:
            yield from (t for t in (core.timer, *(queue.timer for queue in core.queues.values())) if t is not None)
        for _, _, flow in self.flows:
            yield self.now + -(-flow.left // flow.rate)

    def step_to(self, time: int) -> None:
        """Let the flows flow until then, and do all that happens then."""
        for _, _, flow in self.flows:
            flow.left = max(flow.left - flow.rate * (time - self.now), 0)
        self.now = time
        done = [entry for entry in self.flows if not entry[2].left]
        if done:
            self.flows = [entry for entry in self.flows if entry[2].left]
            self.share()
        for core, queue, _ in done:
            self.finish(core, queue)
        while (due := next(self.due(), None)) is not None:
            core, queue = due
            if queue is None:
                core.timer = None
                self.resume(core)
            else:
                queue.timer = None
                self.step_queue(core, queue)

    def due(self) -> Iterator[tuple[Core, Queue | None]]:
        """What acts now, in order: for each core the core itself, its IO queue, its MOVE queue."""
        for core in self.cores:
            if core.timer == self.now:
                yield core, None
            yield from ((core, queue) for queue in core.queues.values() if queue.timer == self.now)

    # Programs and cores.

    def units(self) -> list[list[Core]]:
        """The groups of cores that a program may occupy; consecutive core numbers are in different clusters."""
        clusters = self.p[timing.CLUSTERS]
        if self.members == 1:
            return [[core] for core in self.cores]
        by_cluster = [self.cores[cluster::clusters] for cluster in range(clusters)]
        width = self.members // len(by_cluster[0])
        whole = range(0, clusters - width + 1, width)
        return [[core for group in by_cluster[first : first + width] for core in group] for first in whole]

    def dispatch(self, unit: list[Core]) -> None:
        """Start the next program on a unit that fell free."""
        first = self.next_program * self.members
        if first >= len(self.traces):
            return
        wave = self.p[timing.LAUNCH_WAVE_CYCLES] if self.next_program >= len(self.units()) else 0
        start = self.now + wave + self.p[timing.DISPATCH_CYCLES]
        self.programs.append([unit[0].number, start, 0])
        for core, records in zip(unit, self.traces[first : first + self.members], strict=True):
            core.causes[Cause.TAIL_IDLE] += self.now - core.idle_since
            core.causes[Cause.LAUNCH] += wave
            core.causes[Cause.DISPATCH] += start - self.now - wave
            core.scalar = core.compute_free = start
            core.program = self.next_program
            core.run = self.program(core, unit, records)
        self.next_program += 1
        for core in unit:
            self.resume(core)

    def resume(self, core: Core) -> None:
        """Let a core's program go on."""
        assert core.run is not None
        next(core.run, None)

    def program(self, core: Core, unit: list[Core], records: list[Record]) -> Generator[None]:
        """Run a program; yields where the core stops until an event resumes it."""
        for record in records:
            core.instruction = record.instruction
            if record.compute_head != NO_COMPUTE:
                core.compute_free = max(core.compute_free + record.compute_cycles, core.scalar + record.compute_head)
            self.spend(core, Cause.ISSUE, record.scalar_cycles)
            match record.kind:
                case Kind.LOAD | Kind.STORE | Kind.GATHER | Kind.SCATTER | Kind.ATOMIC_VECTOR | Kind.MOVE:
                    self.enqueue(core, record)
                case Kind.SYNC:
                    yield from self.wait(core, record.amount & WAIT_ALL)
                    self.spend(core, Cause.SYNC, self.p[timing.SYNC_CYCLES])
                case Kind.SCALAR_LOAD | Kind.SCALAR_STORE:
                    self.spend(core, Cause.SCALAR_MEMORY, self.p[timing.SCALAR_LATENCY_CYCLES])
                case Kind.ATOMIC_SCALAR:
                    core.timer = core.scalar
                    yield
                    self.atomic(core, record)
                case Kind.BARRIER_CLUSTER | Kind.BARRIER_UNION:
                    yield from self.wait(core, WAIT_ALL)
                    self.arrive(core, unit, record.kind)
                    yield
                case Kind.END:
                    yield from self.wait(core, WAIT_ALL)
                    core.timer = core.scalar
                    yield
                    self.end(core, unit)
                    return
                case Kind.LOCAL:
                    pass

    def spend(self, core: Core, cause: Cause, cycles: int) -> None:
        """Let a core's scalar time pass."""
        core.scalar += cycles
        core.causes[cause] += cycles
        if cause is not Cause.ISSUE:
            self.stalls[core.instruction, cause] += cycles

    def atomic(self, core: Core, record: Record) -> None:
        """Wait for an atomic; those on one address follow each other."""
        place = record.address // 8 % ATOMIC_ADDRESSES
        start = max(core.scalar, self.atomics[place])
        self.atomics[place] = start + self.p[timing.ATOMIC_SAME_ADDRESS_CYCLES]
        self.spend(core, Cause.ATOMIC, start + self.p[timing.ATOMIC_LATENCY_CYCLES] - core.scalar)

    def wait(self, core: Core, mask: int) -> Generator[None]:
        """Wait until the queues of a mask are empty."""
        if mask & WAIT_MOVE and not self.p[timing.HAS_MOVE_QUEUE]:
            mask |= WAIT_IO
        awaited = [core.queues[number] for number in (IO, MOVE) if mask & number]
        while not all(queue.idle for queue in awaited):
            core.awaited = mask
            yield
        core.awaited = 0
        ends = {queue.number: queue.free for queue in awaited}
        if mask & WAIT_COMPUTE:
            ends[WAIT_COMPUTE] = core.compute_free
        last = max(ends.values(), default=0)
        if last > core.scalar:
            # The queue that is done last is what the core waited for; among equals IO, then MOVE.
            culprit = next(number for number, end in ends.items() if end == last)
            self.book_wait(core, culprit, last - core.scalar)
        if mask & WAIT_IO:
            core.queues[IO].phases.clear()

    def book_wait(self, core: Core, culprit: int, cycles: int) -> None:
        """Spend a wait; one for IO as its transfers since the last such wait did, in proportion."""
        if culprit != IO:
            self.spend(core, Cause.WAIT_MOVE if culprit == MOVE else Cause.WAIT_COMPUTE, cycles)
            return
        phases = core.queues[IO].phases
        total = max(sum(phases.values()), 1)
        left = cycles
        for cause in (Cause.WAIT_IO_SETUP, Cause.WAIT_IO_LATENCY, Cause.WAIT_IO_CONTENTION):
            part = cycles * phases[cause] // total
            self.spend(core, cause, part)
            left -= part
        self.spend(core, Cause.WAIT_IO_TRANSFER, left)

    def arrive(self, core: Core, unit: list[Core], kind: Kind) -> None:
        """Be at a barrier; the last to arrive sets when all go on."""
        core.barrier = kind
        clusters = self.p[timing.CLUSTERS]
        whole = kind is Kind.BARRIER_UNION
        peers = [peer for peer in unit if whole or peer.number % clusters == core.number % clusters]
        if any(peer.barrier is not kind for peer in peers):
            return
        cost = self.p[timing.UNION_BARRIER_CYCLES if whole else timing.CLUSTER_BARRIER_CYCLES]
        released = max(peer.scalar for peer in peers) + cost
        for peer in peers:
            peer.barrier = None
            self.spend(peer, Cause.BARRIER, released - peer.scalar)
            peer.timer = released

    def end(self, core: Core, unit: list[Core]) -> None:
        """End a core's program; the last of a unit frees it."""
        core.run = None
        core.idle_since = self.cycles = self.now
        self.programs[core.program][2] = self.now
        if all(peer.run is None for peer in unit):
            self.dispatch(unit)

    # Queues.

    def enqueue(self, core: Core, record: Record) -> None:
        """Hand a transfer to a queue."""
        own = record.kind is Kind.MOVE and self.p[timing.HAS_MOVE_QUEUE]
        queue = core.queues[MOVE if own else IO]
        if queue.idle:
            queue.timer = max(core.scalar, queue.free)
        if record.kind <= Kind.STORE and record.address >= LOCAL_START:
            record = replace(record, address=record.address + core.number * LOCAL_STRIDE_BYTES)
        queue.waiting.append(Transfer(record, core.scalar))

    def step_queue(self, core: Core, queue: Queue) -> None:
        """Start the next transfer, let its bytes flow, or end it if it has none."""
        transfer = queue.current
        if transfer is None:
            transfer = queue.current = queue.waiting.pop(0)
            transfer.started = self.now
            if transfer.record.amount:
                self.price(transfer)
            if transfer.bytes:
                self.hide(transfer, behind=queue.flow_began)
            queue.timer = queue.flow_began = self.now + transfer.setup + transfer.latency
        elif transfer.bytes:
            transfer.left = transfer.bytes * ONE
            self.flows.append((core, queue, transfer))
            self.share()
        else:
            self.finish(core, queue)

    def hide(self, transfer: Transfer, behind: int) -> None:
        """Take from set-up, then latency, what went on since a flow began or, if later, since the transfer's issue."""
        hidden = self.now - max(transfer.issued, behind)
        spent = min(hidden, transfer.setup)
        transfer.setup -= spent
        transfer.latency = max(transfer.latency - (hidden - spent), 0)

    def finish(self, core: Core, queue: Queue) -> None:
        """End the transfer under way."""
        transfer = queue.current
        assert transfer is not None
        flowed = self.now - transfer.started - transfer.setup - transfer.latency
        least = -(-transfer.bytes * ONE // transfer.cap) if transfer.bytes else 0
        queue.phases[Cause.WAIT_IO_SETUP] += transfer.setup
        queue.phases[Cause.WAIT_IO_LATENCY] += transfer.latency
        queue.phases[Cause.WAIT_IO_TRANSFER] += least
        queue.phases[Cause.WAIT_IO_CONTENTION] += max(flowed - least, 0)
        queue.current = None
        queue.free = self.now
        if queue.waiting:
            queue.timer = max(self.now, queue.waiting[0].issued)
        elif core.awaited:
            self.resume(core)

    def price(self, transfer: Transfer) -> None:
        """Set-up, latency, size and DRAM weight of a transfer that starts now."""
        record, p = transfer.record, self.p
        transfer.cap = p[timing.CORE_RATE]
        transfer.setup = p[timing.DMA_SETUP_CYCLES]
        match record.kind:
            case Kind.LOAD | Kind.STORE:
                self.price_block(transfer)
            case Kind.MOVE if record.flags & FLAG_BETWEEN_CLUSTERS:
                rate = p[timing.CLUSTER_COPY_RATE]
                transfer.setup = p[timing.CLUSTER_COPY_SETUP_CYCLES] + -(-record.amount * ONE // rate)
            case Kind.MOVE if record.flags & FLAG_SRAM:
                transfer.setup = p[timing.MOVE_SETUP_CYCLES]
                transfer.bytes = record.amount
                transfer.cap = p[timing.MOVE_RATE]
                transfer.sram = True
            case Kind.MOVE:
                transfer.setup = p[timing.MOVE_SETUP_CYCLES] + -(-record.amount * ONE // p[timing.MOVE_RATE])
            case _:
                item_bytes, item_cycles = record.address, p[timing.GATHER_ITEM_CYCLES]
                read, written = self.granules(item_bytes, written=False), 0
                transfer.latency = p[timing.BULK_LATENCY_CYCLES]
                if record.kind is Kind.SCATTER:
                    read, written = 0, self.granules(item_bytes, written=True)
                if record.kind is Kind.ATOMIC_VECTOR:
                    written = read
                    item_cycles = (read >> p[timing.GRANULE_SHIFT]) * p[timing.ATOMIC_INTERVAL_CYCLES]
                    transfer.latency = p[timing.ATOMIC_LATENCY_CYCLES]
                transfer.setup += record.amount * item_cycles
                transfer.bytes = record.amount * item_bytes
                transfer.weight = (read + written) * ONE // max(item_bytes, 1)
                self.dram_read_bytes += read * record.amount
                self.dram_write_bytes += written * record.amount

    def price_block(self, transfer: Transfer) -> None:
        """The same of a LOAD or STORE."""
        record, p = transfer.record, self.p
        store = record.kind is Kind.STORE
        segments = merged_segments(record)
        use = self.use_lines(segments, store)
        traffic = use.read_bytes + use.written_bytes
        cost = ONE
        if len(segments) > 1:
            cost = p[timing.STRIDED_WRITE_COST if store else timing.STRIDED_READ_COST]
        transfer.setup += (len(segments) - 1) * p[timing.DMA_SEGMENT_CYCLES]
        transfer.latency = p[timing.BULK_LATENCY_CYCLES if use.missing_bytes else timing.L2_LATENCY_CYCLES]
        transfer.bytes = record.amount
        transfer.weight = -(-traffic * cost // record.amount)
        self.dram_read_bytes += use.read_bytes
        self.dram_write_bytes += use.written_bytes
        self.l2_hit_bytes += record.amount - use.missing_bytes

    def granules(self, size: int, *, written: bool) -> int:
        """DRAM bytes of one segment; a write below one granule also reads it."""
        granule = 1 << self.p[timing.GRANULE_SHIFT]
        return 2 * granule if written and size < granule else -(-size // granule) * granule

    def use_lines(self, segments: list[tuple[int, int]], store: bool) -> CacheUse:
        """Use the lines of a transfer; the lines used longest ago leave the L2 if it is too full then.

        A line has sectors of one granule. A load reads those that are not valid. A store writes, now or later, those
        that are not dirty, and reads first those that are not valid either and of which it leaves a part.
        """
        granule = 1 << self.p[timing.GRANULE_SHIFT]
        line_shift = self.p[timing.LINE_SHIFT] - self.p[timing.GRANULE_SHIFT]
        use = CacheUse()
        used: dict[int, CacheLine] = {}
        for start, size in segments:
            for sector in range(start // granule, (start + size - 1) // granule + 1):
                number = sector >> line_shift
                line = used[number] = self.lines.setdefault(number, CacheLine())
                covered = min(start + size, (sector + 1) * granule) - max(start, sector * granule)
                if sector not in (line.dirty if store else line.valid):
                    use.missing_bytes += covered
                    if store:
                        use.written_bytes += granule
                    if not store or (covered < granule and sector not in line.valid):
                        use.read_bytes += granule
                line.valid.add(sector)
                if store:
                    line.dirty.add(sector)
        for number in used:
            self.lines.move_to_end(number)
        while len(self.lines) > self.p[timing.L2_LINES]:
            self.lines.popitem(last=False)
        return use

    # Sharing.

    def share(self) -> None:
        """Give every flow its rate: all rise together, and stop at their cap or when what they use is full."""
        p = self.p
        clusters = p[timing.CLUSTERS]
        left: dict[tuple[str, int], int] = {("l2", 0): p[timing.L2_RATE], ("dram", 0): p[timing.DRAM_RATE] * ONE}
        uses: list[tuple[Transfer, dict[tuple[str, int], int]]] = []
        for core, _, flow in self.flows:
            cluster = core.number % clusters
            if flow.sram:
                left["sram", cluster] = p[timing.SRAM_RATE]
                uses.append((flow, {("sram", cluster): 1}))
                continue
            use = {("l2", 0): 1, ("port", cluster): 1}
            left["port", cluster] = p[timing.CLUSTER_RATE]
            uses.append((flow, use | ({("dram", 0): flow.weight} if flow.weight else {})))
        while uses:
            demand: dict[tuple[str, int], int] = defaultdict(int)
            for _, use in uses:
                for resource, weight in use.items():
                    demand[resource] += weight
            levels = {resource: left[resource] // total for resource, total in demand.items()}
            level = min(*levels.values(), *(flow.cap for flow, _ in uses))
            full = {resource for resource, reached in levels.items() if reached == level}
            rising: list[tuple[Transfer, dict[tuple[str, int], int]]] = []
            for flow, use in uses:
                if flow.cap > level and not full & use.keys():
                    rising.append((flow, use))
                    continue
                flow.rate = max(level, 1)
                for resource, weight in use.items():
                    left[resource] -= flow.rate * weight
            uses = rising


def unpack_program(words: list[int], start: int) -> list[Record]:
    """The records of one program, through its END."""
    records: list[Record] = []
    for record in unpack(words, start):
        records.append(record)
        if record.kind is Kind.END:
            break
    return records


def merged_segments(record: Record) -> list[tuple[int, int]]:
    """Start and size of each contiguous segment of a block transfer; segments and planes that touch are one."""
    extent = record.extent
    if extent is None:
        return [(record.address, record.amount)]
    size, count1, count2 = extent.segment_bytes, extent.count1, extent.count2
    if extent.stride1_bytes == size:
        size, count1 = size * count1, 1
    if count1 == 1 and extent.stride2_bytes == size:
        size, count2 = size * count2, 1
    starts = [
        record.address + plane * extent.stride2_bytes + segment * extent.stride1_bytes
        for plane in range(count2)
        for segment in range(count1)
    ]
    return [(start, size) for start in starts]
