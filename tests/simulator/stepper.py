"""A second simulator of timing, to check the replay by: it goes from cycle to cycle.

It follows the written rules (the trace format and the rules of the replay) and shares nothing with the replay: it reads
the words of a trace and the parameters of a machine by itself, knows no events, and has every byte pass cycle by cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.isa.machine import Machine

LOAD, STORE, GATHER, SCATTER, ATOMIC_VECTOR, MOVE, END, SYNC, SCALAR_LOAD, SCALAR_STORE = range(10)
ATOMIC_SCALAR, BARRIER_CLUSTER, BARRIER_UNION, LOCAL = range(10, 14)
TRANSFERS = (LOAD, STORE, GATHER, SCATTER, ATOMIC_VECTOR, MOVE)
# Atomics on addresses of 8 bytes follow each other where these are the same, or so many apart.
ATOMIC_PLACES = 4096
HAS_EXTENT, TOUCHES_SRAM, BETWEEN_CLUSTERS, IS_STRIDED = 1, 2, 4, 8
FOR_IO, FOR_MOVE, FOR_COMPUTE = 1, 2, 4
NOTHING_COMPUTED = -(2**31)
# Rates and costs are in fractions of this of a byte per cycle and of a byte of DRAM traffic per byte.
UNIT = 2**16


def field_of(word: int, low: int, bits: int, *, signed: bool = False) -> int:
    """Some bits of a 64-bit word."""
    value = (word >> low) % 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


@dataclass
class Operation:
    """A record and the extent that belongs to it."""

    scalar_cycles: int
    compute_cycles: int
    compute_head: int
    kind: int
    amount: int
    address: int
    flags: int
    segment_bytes: int
    counts: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (0, 0)
    issued: int = 0


def operations(words: Sequence[int], record: int) -> list[Operation]:
    """The program whose first record this is."""
    program: list[Operation] = []
    while not program or program[-1].kind != END:
        local, middle, payload = (int(word) for word in words[3 * record : 3 * record + 3])
        read = Operation(
            scalar_cycles=field_of(local, 0, 32),
            compute_cycles=field_of(local, 32, 32),
            compute_head=field_of(middle, 0, 32, signed=True),
            kind=field_of(middle, 32, 4),
            amount=field_of(middle, 40, 24),
            address=field_of(payload, 0, 48),
            flags=field_of(middle, 36, 4),
            segment_bytes=field_of(middle, 40, 24),
        )
        record += 1
        if read.flags & IS_STRIDED:
            read.scalar_cycles, read.compute_cycles = field_of(local, 0, 16), field_of(middle, 16, 16)
            read.compute_head = field_of(local, 16, 16) or NOTHING_COMPUTED
            read.counts = field_of(middle, 0, 16), 1
            read.strides = field_of(local, 32, 32, signed=True), 0
            read.segment_bytes = read.amount // read.counts[0]
        elif read.kind in (LOAD, STORE) and read.flags & HAS_EXTENT:
            sizes, stride, planes = (int(word) for word in words[3 * record : 3 * record + 3])
            read.segment_bytes = field_of(sizes, 0, 32)
            read.counts = field_of(sizes, 32, 32), field_of(planes, 0, 16)
            read.strides = field_of(stride, 0, 64, signed=True), field_of(planes, 16, 48, signed=True)
            record += 1
        program.append(read)
    return program


@dataclass(eq=False)
class Flow:
    """Bytes that pass through the ports of the chip; ``left`` and ``rate`` in fractions of a byte."""

    cluster: int
    left: int
    dram_cost: int = 0
    sram: bool = False
    rate: int = 0


@dataclass
class Transfer:
    """A transfer that a queue has taken up."""

    flow: Flow | None
    flows_from: int
    flowing: bool = False


@dataclass
class Queue:
    """The IO or MOVE queue of a core."""

    waiting: list[Operation] = field(default_factory=list[Operation])
    current: Transfer | None = None
    last_flow_start: int = 0

    @property
    def empty(self) -> bool:
        """Nothing waits, nothing is under way."""
        return not self.waiting and self.current is None


@dataclass
class Core:
    """A core: its scalar queue reaches the operation at ``place`` of its program at ``reaches``."""

    cluster: int
    unit: list[Core] = field(default_factory=list["Core"])
    waits_at: int | None = None
    program: list[Operation] = field(default_factory=list[Operation])
    number: int = 0
    place: int = 0
    reaches: int = 0
    compute_free: int = 0
    io: Queue = field(default_factory=Queue)
    move: Queue = field(default_factory=Queue)

    def fold(self) -> None:
        """The work up to the next operation."""
        ahead = self.program[self.place]
        if ahead.compute_head != NOTHING_COMPUTED:
            after_queue = self.compute_free + ahead.compute_cycles
            self.compute_free = max(after_queue, self.reaches + ahead.compute_head)
        self.reaches += ahead.scalar_cycles


class Stepper:
    """One launch on one machine; ``run`` returns its cycles, ``ends`` are those of its programs."""

    def __init__(
        self, words: Sequence[int], starts: Sequence[int], machine: Machine, cores_per_program: int = 1
    ) -> None:
        self.machine = machine
        parts = [operations(words, int(start)) for start in starts]
        self.programs = [parts[first : first + cores_per_program] for first in range(0, len(parts), cores_per_program)]
        self.ends = [0] * len(self.programs)
        self.started = 0
        self.cores = [Core(number % machine.clusters) for number in range(machine.clusters * machine.cores_per_cluster)]
        self.units = self.group(cores_per_program)
        self.atomics_end: dict[int, int] = {}
        # Of the L2: when each line that it holds was used last, and its state granule by granule.
        self.line_uses: dict[int, tuple[int, int]] = {}
        self.valid_granules: set[int] = set()
        self.dirty_granules: set[int] = set()
        self.uses = self.touches = 0
        self.flows: list[Flow] = []
        self.now = self.cycles(machine.launch_device_ns)

    def cycles(self, nanoseconds: int) -> int:
        """A latency, rounded up to whole cycles."""
        return -(-nanoseconds * self.machine.clock_mhz // 1000)

    def run(self) -> int:
        """Go through the cycles until nothing is left to do."""
        for unit in self.units:
            self.start_program(unit)
        while busy := [core for core in self.cores if core.program]:
            for core in busy:
                while self.step_scalar(core) or self.step_queue(core, core.io) or self.step_queue(core, core.move):
                    pass
            self.let_flow(busy)
            self.now += 1
        return max(self.ends, default=self.now)

    # Cores.

    def group(self, cores_per_program: int) -> list[list[Core]]:
        """The cores that a program may have: one, or all of one or more clusters that follow each other."""
        if cores_per_program == 1:
            return [[core] for core in self.cores]
        width = cores_per_program // self.machine.cores_per_cluster
        units: list[list[Core]] = []
        for first in range(0, self.machine.clusters - width + 1, width):
            clusters = range(first, first + width)
            units.append([core for cluster in clusters for core in self.cores if core.cluster == cluster])
        return units

    def start_program(self, unit: list[Core]) -> None:
        """Hand the next program to free cores."""
        if self.started == len(self.programs):
            return
        waited = self.cycles(self.machine.launch_wave_ns) if self.started >= len(self.units) else 0
        for core, part in zip(unit, self.programs[self.started], strict=True):
            core.unit, core.program, core.number, core.place = unit, part, self.started, 0
            core.reaches = core.compute_free = self.now + waited + self.machine.dispatch_cycles
            core.fold()
        self.started += 1

    def step_scalar(self, core: Core) -> bool:
        """What the scalar queue does in this cycle; False if nothing."""
        if not core.program or self.now < core.reaches or core.waits_at is not None:
            return False
        here = core.program[core.place]
        spent = 0
        if here.kind in TRANSFERS:
            here.issued = self.now
            own_queue = here.kind == MOVE and self.machine.has_move_queue
            (core.move if own_queue else core.io).waiting.append(here)
        elif here.kind in (SYNC, END, BARRIER_CLUSTER, BARRIER_UNION):
            mask = here.amount if here.kind == SYNC else FOR_IO | FOR_MOVE | FOR_COMPUTE
            if not self.all_done(core, mask):
                return False
            if here.kind == END:
                self.ends[core.number] = self.now
                core.program = []
                if not any(other.program for other in core.unit):
                    self.start_program(core.unit)
                return True
            if here.kind != SYNC:
                core.waits_at = here.kind
                self.release(core)
                return True
            spent = self.machine.sync_cycles
        elif here.kind in (SCALAR_LOAD, SCALAR_STORE):
            spent = self.cycles(self.machine.dram_scalar_latency_ns)
        elif here.kind == ATOMIC_SCALAR:
            place = here.address // 8 % ATOMIC_PLACES
            begins = max(self.now, self.atomics_end.get(place, 0))
            self.atomics_end[place] = begins + self.machine.atomic_same_address_cycles
            spent = begins + self.machine.atomic_latency_cycles - self.now
        elif here.kind != LOCAL:
            raise ValueError(f"the stepper knows no record of kind {here.kind}")
        core.place += 1
        core.reaches = self.now + spent
        core.fold()
        return True

    def release(self, core: Core) -> None:
        """Let the cores at a barrier go on if this was the last of them to come."""
        kind, machine = core.waits_at, self.machine
        of_cluster = kind == BARRIER_CLUSTER
        peers = [other for other in core.unit if not of_cluster or other.cluster == core.cluster]
        if any(other.waits_at != kind for other in peers):
            return
        for other in peers:
            other.waits_at = None
            other.place += 1
            other.reaches = self.now + (machine.cluster_barrier_cycles if of_cluster else machine.union_barrier_cycles)
            other.fold()

    def all_done(self, core: Core, mask: int) -> bool:
        """Whether the queues of a mask are empty."""
        moves_are_io = not self.machine.has_move_queue
        return not (
            (mask & (FOR_IO | FOR_MOVE if moves_are_io else FOR_IO) and not core.io.empty)
            or (mask & FOR_MOVE and not core.move.empty)
            or (mask & FOR_COMPUTE and self.now < core.compute_free)
        )

    # Queues.

    def step_queue(self, core: Core, queue: Queue) -> bool:
        """What a queue does in this cycle; False if nothing."""
        under_way = queue.current
        if under_way is None:
            if not queue.waiting:
                return False
            self.take_up(core, queue, queue.waiting.pop(0))
            return True
        if under_way.flowing and under_way.flow and under_way.flow.left <= 0:
            queue.current = None
            return True
        if not under_way.flowing and self.now >= under_way.flows_from:
            under_way.flowing = True
            if under_way.flow is None:
                queue.current = None
            return True
        return False

    def take_up(self, core: Core, queue: Queue, taken: Operation) -> None:
        """Begin with a transfer; the one before it in the queue is over."""
        flow, preparation = self.price(core, taken)
        if flow is None:
            flows_from = self.now + preparation
        else:
            # Behind another transfer, preparation has gone on since that one's bytes began to flow.
            flows_from = max(self.now, max(taken.issued, queue.last_flow_start) + preparation)
        queue.current = Transfer(flow, flows_from)
        queue.last_flow_start = flows_from

    def price(self, core: Core, taken: Operation) -> tuple[Flow | None, int]:
        """What flows, and the set-up and latency before that."""
        machine = self.machine
        if not taken.amount:
            return None, 0
        if taken.kind == MOVE:
            if taken.flags & BETWEEN_CLUSTERS:
                duration = -(-taken.amount // machine.cluster_dma_copy_bytes_per_cycle)
                return None, machine.cluster_dma_copy_setup_cycles + duration
            if taken.flags & TOUCHES_SRAM:
                return Flow(core.cluster, taken.amount * UNIT, sram=True), machine.move_setup_cycles
            return None, machine.move_setup_cycles + -(-taken.amount // machine.move_bytes_per_cycle)
        if taken.kind == ATOMIC_VECTOR:
            # The payload is the size of an item here, too. What is changed is read and written.
            traffic = self.dram_traffic(taken.address, written=False)
            granules = taken.amount * traffic // machine.dram_granule_bytes
            setup = machine.dma_setup_cycles + granules * machine.atomic_interval_cycles
            flow = Flow(core.cluster, taken.amount * taken.address * UNIT, 2 * traffic * UNIT // taken.address)
            return flow, setup + machine.atomic_latency_cycles
        if taken.kind in (GATHER, SCATTER):
            # The payload of these is the size of an item.
            traffic = self.dram_traffic(taken.address, written=taken.kind == SCATTER)
            setup = machine.dma_setup_cycles + taken.amount * machine.gather_item_cycles
            size = taken.amount * taken.address
            flow = Flow(core.cluster, size * UNIT, traffic * UNIT // taken.address)
            return flow, setup + self.cycles(machine.dram_bulk_latency_ns)
        return self.price_block(core, taken)

    def price_block(self, core: Core, taken: Operation) -> tuple[Flow, int]:
        """The same of a LOAD or STORE, which goes through the L2."""
        machine, written = self.machine, taken.kind == STORE
        segment, (lines, planes), (stride, plane_stride) = taken.segment_bytes, taken.counts, taken.strides
        # Neighbouring segments are one.
        if stride == segment:
            segment, lines = segment * lines, 1
        if lines == 1 and plane_stride == segment:
            segment, planes = segment * planes, 1
        offsets = [plane * plane_stride + line * stride for plane in range(planes) for line in range(lines)]
        latency_ns, traffic = self.use_cache([taken.address + offset for offset in offsets], segment, written=written)
        segments = lines * planes
        efficiency = machine.strided_write_efficiency if written else machine.strided_read_efficiency
        cost = round(UNIT / efficiency) if segments > 1 else UNIT
        flow = Flow(core.cluster, taken.amount * UNIT, -(-traffic * cost // taken.amount))
        setup = machine.dma_setup_cycles + (segments - 1) * machine.dma_segment_cycles
        return flow, setup + self.cycles(latency_ns)

    def dram_traffic(self, size: int, *, written: bool) -> int:
        """Bytes that DRAM moves for consecutive ones: whole granules, and twice that for less than one written."""
        granule = self.machine.dram_granule_bytes
        return 2 * granule if written and size < granule else -(-size // granule) * granule

    def use_cache(self, starts: list[int], size: int, *, written: bool) -> tuple[float, int]:
        """The latency of a transfer in ns and the bytes that DRAM moves for it, which the L2 holds from then on."""
        machine, granule_bytes = self.machine, self.machine.dram_granule_bytes
        self.uses += 1
        traffic = 0
        for start in starts:
            for granule in range(start // granule_bytes, (start + size - 1) // granule_bytes + 1):
                line = granule * granule_bytes // machine.l2_line_bytes
                if self.line_uses.get(line, (0, 0))[0] < self.uses:
                    self.touches += 1
                    self.line_uses[line] = self.uses, self.touches
                if granule not in (self.dirty_granules if written else self.valid_granules):
                    traffic += granule_bytes
                is_whole = start <= granule * granule_bytes and (granule + 1) * granule_bytes <= start + size
                if written and not is_whole and granule not in self.valid_granules:
                    traffic += granule_bytes
                self.valid_granules.add(granule)
                if written:
                    self.dirty_granules.add(granule)
        # What was touched first of all that is there leaves first.
        by_age = sorted(self.line_uses, key=lambda line: self.line_uses[line])
        for line in by_age[: -(machine.l2_bytes // machine.l2_line_bytes)]:
            del self.line_uses[line]
            first = line * machine.l2_line_bytes // granule_bytes
            gone = range(first, first + machine.l2_line_bytes // granule_bytes)
            self.valid_granules.difference_update(gone)
            self.dirty_granules.difference_update(gone)
        return machine.dram_bulk_latency_ns if traffic else machine.l2_latency_ns, traffic

    # Flows.

    def let_flow(self, busy: list[Core]) -> None:
        """A cycle's worth of the bytes under way."""
        under_way = [queue.current for core in busy for queue in (core.io, core.move)]
        flows = [each.flow for each in under_way if each and each.flowing and each.flow]
        if flows != self.flows:
            # Shares depend on nothing but who takes part.
            self.flows = flows
            self.share_memory([flow for flow in flows if not flow.sram])
            self.share_sram([flow for flow in flows if flow.sram])
        for flow in flows:
            flow.left -= flow.rate

    def share_sram(self, moves: list[Flow]) -> None:
        """Divide the ports of the clusters' SRAM."""
        for flow in moves:
            peers = sum(other.cluster == flow.cluster for other in moves)
            share = self.machine.sram_port_bytes_per_cycle * UNIT // peers
            flow.rate = min(self.machine.move_bytes_per_cycle * UNIT, share)

    def share_memory(self, rising: list[Flow]) -> None:
        """Raise the rates of all flows together; those that reach their core's rate or fill something stay there."""
        machine = self.machine
        core_rate = min(machine.core_dma_bytes_per_cycle, machine.core_dma_total_bytes_per_cycle) * UNIT
        # What is shared: how much of it there is, and how much of it a byte of each flow takes.
        shared: list[tuple[float, list[tuple[Flow, float]]]] = [
            (machine.l2_bytes_per_cycle * UNIT, [(flow, 1) for flow in rising]),
            (
                machine.dram_gb_per_s * 1000 / machine.clock_mhz * machine.dram_efficiency * UNIT,
                [(flow, flow.dram_cost / UNIT) for flow in rising if flow.dram_cost],
            ),
        ]
        for cluster in range(machine.clusters):
            users = [(flow, 1.0) for flow in rising if flow.cluster == cluster]
            shared.append((machine.cluster_dma_bytes_per_cycle * UNIT, users))
        level = dict.fromkeys(rising, 0.0)
        while rising:
            height = float(core_rate)
            fills: list[tuple[float, list[tuple[Flow, float]]]] = []
            still_rising = set(rising)
            for rate, users in shared:
                moving = sum(part for flow, part in users if flow in still_rising)
                if moving:
                    taken = sum(part * level[flow] for flow, part in users if flow not in still_rising)
                    fills.append(((rate - taken) / moving, users))
                    height = min(height, fills[-1][0])
            # A little more, so that rounding in the last place neither costs a unit nor parts what fills at once.
            height *= 1 + 1e-12
            stopped = {flow for fill, users in fills if fill <= height for flow, _ in users}
            for flow in rising:
                level[flow] = height
                flow.rate = int(height)
            if height >= core_rate:
                return
            rising = [flow for flow in rising if flow not in stopped]
