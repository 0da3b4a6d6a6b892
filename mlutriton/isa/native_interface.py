"""What native programs and the simulator that runs them agree on: the context, the runtime table, memory images.

A native program is one function, ``PROGRAM``, which runs one task; the runtime's ``RUN`` calls it for task after task.
Each host thread has a context, an array of 64-bit words, and calls ``run(context, program)``; the threads take tasks in
chunks from a counter that they share, until none is left or one has a fault. A task is one program of the grid, or of a
resident program (``Program.is_resident``) serves several, of which the first has its number.

The cores of a cluster program take turns on one host thread, each from barrier to barrier. Each has a context, with
memories, trace and prints of its own; SRAM and the counters of work are the same in all. ``TOGETHER`` runs one task on
all of its cores, ``RUN_TOGETHER`` task after task; they take the context of the first, which names all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from mlutriton.dtypes import DType
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program
from mlutriton.isa.table import TENSOR_TYPES, admitted

PROGRAM = "program"
RUN = "run"
# The same for cluster programs.
TOGETHER = "together"
# What a program exports, so that one look-up finds it: the address of PROGRAM or TOGETHER, how many counters of work a
# thread has, how many entries follow, and WorkTerm for WorkTerm.
PROGRAM_TABLE = "program_table"
RUN_TOGETHER = "run_together"
# What a thread that works for launches runs for ever, how they hand it something, and how they wait for it.
SERVE, BEGIN, WAIT = "serve", "begin", "wait"


@dataclass(frozen=True, slots=True)
class NativeText:
    """A translated program: LLVM texts that become one library.

    Attributes:
        control: scalar code that calls the rest: long, run once for many elements, hence compiled quickly.
        loops: what walks through elements, hence compiled well; a module for each part of the program that has much.
        shared: what other programs call just as well, one function each: to be compiled once for all of them.
    """

    control: str
    loops: tuple[str, ...]
    shared: tuple[str, ...] = ()

    def __str__(self) -> str:
        loops = (f"; ---- loops ----\n{each}" for each in self.loops)
        return "\n".join([self.control, *loops, *(f"; ---- shared ----\n{each}" for each in self.shared)])


Begin = Callable[[str, bool], None]
"""Told of each text of a program but its control as soon as that is known, and whether it is a shared one."""


class Context:
    """Word numbers of a thread's context: plain numbers, as each launch asks for them and enumerations are slow."""

    # Memory images of one core, host addresses. SLACK_BYTES of readable and writable bytes follow each.
    NRAM = 0
    WRAM = 1
    SRAM = 2
    SCRATCH = 3
    # The launch.
    PARAMETERS = 4  # address of one word a parameter
    GRID_X = 5
    GRID_Y = 6
    GRID_Z = 7
    # Work shared by the threads: addresses of one word each.
    NEXT = 8  # first task that no thread has taken
    LIMIT = 9  # tasks from this one on are not run: their number, the least program that faulted, or STOP, or FULL
    CHUNK = 10  # tasks taken at a time
    THREAD = 11
    # Addresses of arrays with one word for each core of each task, written by the thread that runs it.
    OWNERS = 12  # number of the context among those of all threads
    STARTS = 13  # offset of its first record in the thread's trace
    SIZES = 14  # bytes of its records
    # Address of the table of runtime functions.
    RUNTIME = 15
    # The thread's trace: begin, place of the next record, end of the allocated bytes (by malloc).
    TRACE = 16
    TRACE_NEXT = 17
    TRACE_END = 18
    # What print hands over, likewise: PRINT_WORDS words a print, then its elements, filled up to whole words.
    PRINTS = 19
    PRINTS_NEXT = 20
    PRINTS_END = 21
    # Allocations, sorted by address: ALLOCATION_WORDS words each; and the one hit last.
    ALLOCATIONS = 22
    ALLOCATION_COUNT = 23
    HIT_START = 24
    HIT_END = 25
    HIT_WRITABLE = 26
    HIT_DEVICE = 27
    # The first fault of the thread.
    FAULT = 28
    FAULT_INSTRUCTION = 29
    FAULT_PROGRAM = 30
    FAULT_ADDRESS = 31
    FAULT_BYTES = 32
    FAULT_SLOT = 33
    # 1 if no two arrays of the launch share bytes.
    DISJOINT = 34
    # Bytes beyond which neither the trace nor the prints of the thread may grow.
    RECORDED_BYTES = 35
    # Address of the thread's counters of work by instruction, see WorkTerm.
    INSTRUCTION_WORK = 36
    # Addresses of a byte for each TOUCHED_UNIT_BYTES of the device that gathers, scatters and vector atomics set where
    # they load and where they store, but for local memory; of unit 0. 0 without values.
    TOUCHED_LOADED = 37
    TOUCHED_STORED = 38
    # Tasks of the launch: as many as programs, or fewer that each serve several.
    TASKS = 39
    # The program that is being served.
    SERVED = 40
    # Function that lets other programs run, where programs wait for one another: it takes the thread, the program, the
    # instruction, whether nothing has changed and the attempt, and gives 1 if the program has to stop.
    TURN = 41
    # Host address of the thread's local memory.
    LOCAL = 42
    # Number of the core in its cluster, and the address of those of the contexts of all cores of the thread's task.
    MEMBER = 43
    MEMBERS = 44
    # Number of the launch that it was prepared for; native code of programs does not look at it.
    LAUNCH = 45
    # The fold since the last record, see the trace format: scalar cycles, compute cycles, and the head or NO_HEAD.
    FOLD_SCALAR = 46
    FOLD_COMPUTE = 47
    FOLD_HEAD = 48
    # Work done, see Counter.
    COUNTERS = 49


class Summary:
    """Likewise, word numbers of what the contexts of a launch add up to."""

    # Bytes of the traces.
    RECORDED_BYTES = 0
    # 0 if none has a fault.
    FAULTS = 1
    COUNTERS = 2


class Worker:
    """Likewise, word numbers of what a thread that works for launches shares with them."""

    # POSIX semaphores: there is something to run, and it has been run.
    WANTED = 0
    FINISHED = 4
    # Addresses of the function to call, RUN or RUN_TOGETHER, and of its arguments.
    RUN = 8
    CONTEXT = 9
    TASK = 10
    # Nanoseconds of the processor that the call took.
    BUSY_NS = 11
    # 1 from when it is handed something until someone has seen that it finished.
    IS_BUSY = 12


class Counter(IntEnum):
    """Counters of a launch; words of the context from ``Context.COUNTERS`` on.

    Units: bytes of lanes of the vector unit by the class of the operation, as if no operation shared any with others of
    its chain, and no row ended within a beat; cycles in which the vector or tensor unit works; multiply-accumulates;
    bytes of DRAM asked for.
    """

    VECTOR_SIMPLE_BYTES = 0
    VECTOR_FMA_BYTES = 1
    VECTOR_DIVIDE_BYTES = 2
    VECTOR_SPECIAL_BYTES = 3
    VECTOR_REDUCTION_BYTES = 4
    VECTOR_OTHER_BYTES = 5
    TENSOR_CYCLES = 6
    MACS = 7
    READ_BYTES = 8
    WRITTEN_BYTES = 9
    BUSY_CYCLES = 10


class InstructionWork(IntEnum):
    """Rows of the table of work by instruction, of one word for each instruction of the program.

    Cycles of a chain count for its last instruction. Native code counts what the table follows from (``WorkTerm``).
    """

    EXECUTIONS = 0
    COMPUTE_CYCLES = 1


class WorkTerm(IntEnum):
    """Words of an entry of ``PROGRAM_TABLE``: a word of the table of work is a multiple of one counter of the program.

    What a thread counts is how often each block was executed, and cycles that differ from one time to the next.
    Executions are those of the first instruction of a block, which are those of all others in it too.
    """

    ROW = 0  # InstructionWork
    INSTRUCTION = 1
    COUNTER = 2
    FACTOR = 3


class Allocation(IntEnum):
    """Words of an allocation's entry."""

    START = 0
    END = 1
    WRITABLE = 2
    DEVICE_START = 3


# WRITABLE of an allocation to which programs of the launch may store, and no other: what lies in those that they only
# read is lent. Of these it is 1 if the host may write them.
STORED = 2


class Fault(IntEnum):
    """What stopped a program; the value of ``Context.FAULT``."""

    NONE = 0
    OUTSIDE = 1  # E0301
    WINDOW = 2  # E0304
    ASSERTION = 3  # E0305
    READ_ONLY = 4  # E0307
    INDEX = 5  # E0304, by a value that indexes on-chip memory
    STOPPED = 6  # LIMIT is STOP or FULL
    BARRIER = 7  # E0306, some cores of a program wait at a barrier (FAULT_ADDRESS: how many) that others never reach
    UNTAKEN = 8  # never: a version that the launch was known not to take


# What the function of a program gives: it has ended, it has a fault, or it waits at a barrier and is to be resumed.
OVER, FAILED, AT_BARRIER = 0, 1, 2

# Words of LIMIT that end loops too: the host wants it, or what is recorded has outgrown RECORDED_BYTES.
STOP = -1
FULL = -2

# Finer than the granules of machines, so that granules follow.
TOUCHED_UNIT_BYTES = 32
# What a program that is over gives to TURN as its instruction.
ENDED = -1

# Adding cycles to it never makes it a time.
NO_HEAD = -(1 << 62)

WORKER_WORDS = 16  # whole cache lines
CONTEXT_WORDS = Context.COUNTERS + len(Counter)
SUMMARY_WORDS = Summary.COUNTERS + len(Counter)
ALLOCATION_WORDS = len(Allocation)
PRINT_WORDS = 3  # program, instruction number, elements

# Vector code may read and write back this many bytes past the end of an on-chip memory.
SLACK_BYTES = 4096

# WRAM holds float32 on the host whatever the program put there, so that weights are converted once. Element i of a
# buffer at byte b stands at byte WRAM_EXPANSION * b + 4 * i; the image has as many times the bytes of the memory.
WRAM_EXPANSION = 4
# The left operand of a matrix product is converted into scratch: at most this many times the bytes of NRAM.
SCRATCH_EXPANSION = 4

# The cores of a cluster keep the weights that they have in common behind the image of SRAM; there is room for as many
# as the WRAM of so many cores holds, and for what is noted of them, so many bytes for the cluster and for each core.
_COMMON_WEIGHTS_CORES = 2
NOTED_WEIGHTS_BYTES = 896
_LINE_BYTES = 64

# The table of loans of a core, behind its image of NRAM.
LOANS_BYTES = 896


def loans_offset(machine: Machine) -> int:
    """Where the table of loans begins, counted from the image of NRAM."""
    return -(-(machine.nram_bytes + SLACK_BYTES) // _LINE_BYTES) * _LINE_BYTES


def common_weights_offset(machine: Machine) -> int:
    """Where the common weights of a cluster begin, counted from the image of SRAM."""
    return -(-(machine.sram_bytes + SLACK_BYTES) // _LINE_BYTES) * _LINE_BYTES


def common_weights_bytes(machine: Machine) -> int:
    """What the common weights of a cluster take, with what is noted of them."""
    noted = NOTED_WEIGHTS_BYTES * (1 + machine.cores_per_cluster)
    return noted + _COMMON_WEIGHTS_CORES * WRAM_EXPANSION * machine.wram_bytes


# Functions of the runtime, in the order of their addresses in the table. Any program may call the basic ones; each of
# the others takes LLVM longer than all of those, and is there for programs that have its instructions.
BASIC_FUNCTIONS = (
    "record", "print", "check", "copy", "fill", "load", "load_pad", "store", "settle", "settle_changing",
    "source", "source_rows", "overwrite", "common_weights", "forget_weights",
)  # fmt: skip
SPECIAL_FUNCTIONS = (
    "transpose",
    *(f"{name}_{dtype}" for name in ("weight", "mm") for dtype in admitted(TENSOR_TYPES)),
)  # fmt: skip
RUNTIME_FUNCTIONS = BASIC_FUNCTIONS + SPECIAL_FUNCTIONS
# What the host calls to join what threads have recorded, or to see that it is known; to have the contexts of the launch
# before once more, and to sum up what is in them.
CONCATENATE, REPEATS, PREPARE_AGAIN, SUM_UP = "concatenate", "repeats", "prepare_again", "sum_up"
HOST_FUNCTIONS = (CONCATENATE, REPEATS, PREPARE_AGAIN, SUM_UP, RUN, RUN_TOGETHER, SERVE, BEGIN, WAIT)
# The addresses of the basic functions and of those that the host calls, in this order: one look-up finds all.
BASIC_TABLE = "basic_table"

_SPECIAL_NAMES = {"v.transpose": "transpose", "dma.weight": "weight_{}", "move.weight": "weight_{}", "mm": "mm_{}"}


def product_functions(dtype: DType) -> tuple[str, ...]:
    """Those of ``SPECIAL_FUNCTIONS`` that programs call which multiply in a type of the tensor unit."""
    return tuple(sorted({name.format(dtype) for name in _SPECIAL_NAMES.values() if "{}" in name}))


def special_functions(program: Program) -> tuple[str, ...]:
    """Those of ``SPECIAL_FUNCTIONS`` that a program calls."""
    called = {
        _SPECIAL_NAMES[each.row.name].format(each.dtypes[0])
        for each in program.instructions
        if each.row.name in _SPECIAL_NAMES
    }
    return tuple(sorted(called))
