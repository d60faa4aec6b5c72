"""The filter of system calls: made by its script, right for both architectures, and really put on."""

from __future__ import annotations

import importlib.util
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from metaharness.errors import SandboxError
from metaharness.sandbox import filters, seccomp
from metaharness.sandbox import guard as guard_module

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_seccomp.py"
MACHINES = ("x86_64", "aarch64")
ALLOWED, DENIED, ABSENT, NO_TERMINAL, KILLED = 0x7FFF0000, 0x50001, 0x50026, 0x50019, 0x80000000
THREAD, PID = 0x003D0F00, filters.PID
needs_filter = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in filters.BASE64, reason="there is no filter for this machine"
)


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_seccomp", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_bytes_are_what_the_script_makes(made: ModuleType) -> None:
    for machine in MACHINES:
        assert seccomp.filter_bytes(machine) == made.assembled(machine)
        assert seccomp.filter_bytes(machine, processes=True) == made.assembled(machine, processes=True)
    assert subprocess.run([sys.executable, SCRIPT, "--check"], check=False).returncode == 0


def test_a_machine_without_a_filter_is_refused_with_a_way_out() -> None:
    with pytest.raises(SandboxError, match="riscv64") as error:
        seccomp.filter_bytes("riscv64")
    assert "--sandbox-command" in (error.value.hint or "")


# --- by an emulator: also for the architecture that this machine is not --------------------------------------------


def answer(code: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What a filter says of a call."""
    call = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("<HBBI", code))
    place = held = 0
    while True:
        kind, yes, no, value = program[place]
        place += 1
        match kind:
            case 0x20:
                [held] = struct.unpack_from("<I", call, value)
            case 0x54:
                held &= value
            case 0x06:
                return int(value)
            case _:
                true = {0x15: held == value, 0x25: held > value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
                place += yes if true else no


@pytest.mark.parametrize("machine", MACHINES)
def test_every_named_call_is_denied_unless_it_has_conditions(machine: str, made: ModuleType) -> None:
    code, audit = seccomp.filter_bytes(machine), made.AUDIT[machine]
    for name, number in (made.OWN[machine] | made.SHARED).items():
        if name not in made.CONDITIONAL:
            assert answer(code, audit, number) == (ABSENT if name in made.HIDDEN else DENIED), name


@pytest.mark.parametrize("machine", MACHINES)
def test_every_other_call_is_allowed_and_what_is_newer_does_not_exist(machine: str, made: ModuleType) -> None:
    code, audit = seccomp.filter_bytes(machine), made.AUDIT[machine]
    named = set((made.OWN[machine] | made.SHARED).values())
    for number in set(range(made.NEWEST + 1)) - named:
        assert answer(code, audit, number) == ALLOWED, number
    for number in (made.NEWEST + 1, 0x40000000, 0x40000029, 0xFFFFFFFF):
        assert answer(code, audit, number) == ABSENT, number


CONDITIONS = [
    ("clone", (THREAD,), ALLOWED),
    ("clone", (0x01200011,), DENIED),
    ("clone", (0x11,), DENIED),
    ("clone", (THREAD | 0x10000000,), DENIED),
    ("clone", (0x4111,), DENIED),
    ("kill", (PID, 9), ALLOWED),
    ("kill", (0, 9), DENIED),
    ("kill", (0xFFFFFFFF, 9), DENIED),
    ("kill", (1, 9), DENIED),
    ("tgkill", (PID, 7, 6), ALLOWED),
    ("tgkill", (1, 1, 9), DENIED),
    ("prlimit64", (0, 7), ALLOWED),
    ("prlimit64", (PID, 7), ALLOWED),
    ("prlimit64", (1, 7), DENIED),
    ("openat", (3, 0, 0), ALLOWED),
    ("openat", (3, 0, 0o1101), ALLOWED),
    ("openat", (3, 0, 0o1002), ALLOWED),
    ("openat", (3, 0, 0o1000), DENIED),
    ("openat", (3, 0, 0o3), DENIED),
    ("openat", (3, 0, 0o1003), DENIED),
    ("fadvise64", (3, 0, 0, 2), ALLOWED),
    ("fadvise64", (3, 0, 0, 4), DENIED),
    ("preadv2", (3, 0, 1, 0, 0, 0), ALLOWED),
    ("preadv2", (3, 0, 1, 0, 0, 8), DENIED),
    ("mmap", (0, 4096, 3, 0x22), ALLOWED),
    ("mmap", (0, 4096, 3, 0x21), ALLOWED),
    ("socketpair", (1, 1), ALLOWED),
    ("socketpair", (1, 1 | 0o2000000 | 0o4000), ALLOWED),
    ("socketpair", (1, 2), DENIED),
    ("socketpair", (1, 5), DENIED),
    ("socketpair", (2, 1), DENIED),
    ("prctl", (15,), ALLOWED),
    ("prctl", (1,), DENIED),
    ("prctl", (4, 1), DENIED),
    ("fcntl", (3, 4, 0o4000), ALLOWED),
    ("fcntl", (3, 1030), ALLOWED),
    ("fcntl", (3, 8, 1), DENIED),
    ("fcntl", (3, 10, 9), DENIED),
    ("fcntl", (3, 15), DENIED),
    ("fcntl", (3, 1031, 1 << 20), DENIED),
    ("ioctl", (3, 0x5401), ALLOWED),
    ("ioctl", (3, 0x5412), NO_TERMINAL),
    ("ioctl", (3, 0x8901), NO_TERMINAL),
    ("ioctl", (3, 0x40086602), NO_TERMINAL),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "expected"), CONDITIONS)
def test_a_call_with_conditions_is_judged_by_its_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int, made: ModuleType
) -> None:
    code, audit = seccomp.filter_bytes(machine), made.AUDIT[machine]
    assert answer(code, audit, made.OWN[machine][name], *arguments) == expected


SEVERAL = [
    ("clone", (0x01200011,), ALLOWED),
    ("clone", (0x4111,), ALLOWED),
    ("clone", (0x11 | 0x10000000,), DENIED),
    ("clone", (THREAD | 0x20000000,), DENIED),
    ("execve", (), ALLOWED),
    ("kill", (0, 9), ALLOWED),
    ("tgkill", (1, 1, 9), ALLOWED),
    ("fchmodat", (3, 0, 0o755), ALLOWED),
    ("fchmodat", (3, 0, 0o4755), DENIED),
    ("fchmod", (3, 0o2755), DENIED),
    ("prlimit64", (1, 7), DENIED),
    ("openat", (3, 0, 0o1000), DENIED),
    ("prctl", (1,), DENIED),
    ("socketpair", (1, 2), DENIED),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "expected"), SEVERAL)
def test_where_processes_may_be_started_a_call_is_judged_for_that(
    machine: str, name: str, arguments: tuple[int, ...], expected: int, made: ModuleType
) -> None:
    code, audit = seccomp.filter_bytes(machine, processes=True), made.AUDIT[machine]
    assert answer(code, audit, made.OWN[machine][name], *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_with_processes_allows_what_it_names_and_nothing_else(machine: str, made: ModuleType) -> None:
    code, audit = seccomp.filter_bytes(machine, processes=True), made.AUDIT[machine]
    for name, number in (made.OWN[machine] | made.SHARED).items():
        if name not in made.CONDITIONAL and name not in made.MODES:
            expected = ALLOWED if name in made.STARTING else ABSENT if name in made.HIDDEN else DENIED
            assert answer(code, audit, number) == expected, name
    assert answer(code, audit, made.SHARED["fchmodat2"], 3, 0, 0o4755) == DENIED
    for flags, expected in ((0x22, ALLOWED), (0x01, ALLOWED), (0x21, DENIED), (0x23, DENIED)):
        assert answer(code, audit, made.OWN[machine]["mmap"], 0, 4096, 3, flags) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_only_the_low_half_of_an_int_counts_as_in_the_kernel(machine: str, made: ModuleType) -> None:
    code, audit, numbers = seccomp.filter_bytes(machine), made.AUDIT[machine], made.OWN[machine]
    assert answer(code, audit, numbers["kill"], 1 | PID << 32) == DENIED
    assert answer(code, audit, numbers["socketpair"], 1, 2 | 1 << 32) == DENIED
    assert answer(code, audit, numbers["prctl"], 1 | 15 << 32) == DENIED


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_of_another_architecture_kills(machine: str, made: ModuleType) -> None:
    for other in (0x40000003, 0x40000028, *(made.AUDIT[one] for one in MACHINES if one != machine)):
        assert answer(seccomp.filter_bytes(machine), other, 0) == KILLED


# --- by the kernel -------------------------------------------------------------------------------------------------

CLOSED_IN = """
import ctypes, json, os, sys
exec(open(sys.argv[1]).read())
guard = Guard({"filter": json.loads(sys.argv[2])})
guard.close_in({"folder": "/", "limits": {"core": 0}})
libc = ctypes.CDLL(None, use_errno=True)
"""


def closed_in(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process with the filter on."""
    import json

    settings = json.dumps(seccomp.settings())
    command = [sys.executable, "-I", "-S", "-c", CLOSED_IN + code, guard_module.__file__, settings, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def harmless(made: ModuleType) -> Iterator[tuple[str, int]]:
    numbers = made.OWN[platform.machine()] | made.SHARED
    yield from ((name, numbers[name]) for name in numbers if name not in made.CONDITIONAL)


@needs_filter
def test_the_kernel_denies_every_named_call(made: ModuleType) -> None:
    import json

    code = """
found = {}
for name, number in json.loads(sys.argv[3]).items():
    result = libc.syscall(*[ctypes.c_long(one) for one in (number, -1, -1, -1, -1, -1, -1)])
    found[name] = [result, ctypes.get_errno()]
print(json.dumps(found))
"""
    done = closed_in(code, json.dumps(dict(harmless(made))))
    assert done.returncode == 0, done.stderr
    for name, [result, error] in json.loads(done.stdout).items():
        assert (result, error) == (-1, 38 if name in made.HIDDEN else 1), name


@needs_filter
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a call of 32 bits is made by an instruction of x86")
def test_a_call_of_32_bits_ends_the_process() -> None:
    code = """
import mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())
"""
    assert closed_in(code).returncode in (-signal.SIGSYS, -signal.SIGSEGV)  # the latter: a kernel without such calls


@needs_filter
def test_the_filter_cannot_be_taken_off_and_holds_for_threads() -> None:
    code = """
import threading
def attempt():
    try:
        os.fork()
    except PermissionError:
        print("denied", open("/proc/thread-self/status").read().count("Seccomp:\\t2"))
thread = threading.Thread(target=attempt)
thread.start()
thread.join()
"""
    assert closed_in(code).stdout.split() == ["denied", "1"]
