"""Makes metaharness/sandbox/filters.py: the system calls a candidate may not make, as BPF for x86_64 and aarch64.

uv run python scripts/make_seccomp.py           # writes the module
uv run python scripts/make_seccomp.py --check   # exit code 1 when it would differ

A filter is a list of instructions of 8 bytes (`struct sock_filter`). What it may look at is the number of the system
call, the architecture and the six arguments, never what an argument points to: whatever hides its flags in memory
(`clone3`, `openat2`) is said not to exist, and the C library falls back.

PID stands for the worker's own process id and is filled in by the worker (metaharness/sandbox/guard.py).

There are two filters: one for a worker that is a single process, and one for domains whose harnesses may start others
(`Domain.subprocess`). The second is for a sandbox with a namespace of processes and mounts of its own alone.
"""

from __future__ import annotations

import base64
import struct
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "metaharness" / "sandbox" / "filters.py"
PID = 0x5A17C0DE
EPERM, ENOSYS, ENOTTY = 1, 38, 25

LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_ANY_BIT = 0x15, 0x25, 0x35, 0x45
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`."""

Instruction = tuple[int, int, int, int]
Program = list[Instruction]

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEWEST = 462
"""What has a higher number came after this list was written, or is of the x32 ABI; it is said not to exist."""

SHARED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_send_signal": 424,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448,
    "set_mempolicy_home_node": 450, "cachestat": 451, "fchmodat2": 452, "statmount": 457, "listmount": 458,
}  # fmt: skip
"""From 424 on a system call has the same number everywhere."""

OWN: dict[str, dict[str, int]] = {
    "x86_64": {
        "mmap": 9, "ioctl": 16, "mincore": 27, "shmget": 29, "shmat": 30, "shmctl": 31, "socket": 41, "connect": 42,
        "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "execve": 59,
        "kill": 62, "semget": 64, "semop": 65, "semctl": 66, "shmdt": 67, "msgget": 68, "msgsnd": 69, "msgrcv": 70,
        "msgctl": 71, "fcntl": 72, "open": 2, "truncate": 76, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
        "lchown": 94, "ptrace": 101, "setuid": 105, "setgid": 106, "setpgid": 109, "setreuid": 113, "setregid": 114,
        "setgroups": 116, "setresuid": 117, "setresgid": 119, "setfsuid": 122, "setfsgid": 123, "capset": 126,
        "rt_sigqueueinfo": 129, "utime": 132, "uselib": 134, "personality": 135, "sysfs": 139, "setpriority": 141,
        "sched_setparam": 142, "sched_setscheduler": 144, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155,
        "_sysctl": 156, "prctl": 157, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165,
        "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171,
        "iopl": 172, "ioperm": 173, "create_module": 174, "init_module": 175, "delete_module": 176,
        "get_kernel_syms": 177, "query_module": 178, "quotactl": 179, "nfsservctl": 180, "setxattr": 188,
        "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "tkill": 200,
        "sched_setaffinity": 203, "lookup_dcookie": 212, "semtimedop": 220, "fadvise64": 221, "clock_settime": 227,
        "tgkill": 234, "utimes": 235, "mq_open": 240, "mq_unlink": 241, "mq_timedsend": 242, "mq_timedreceive": 243,
        "mq_notify": 244, "mq_getsetattr": 245, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
        "ioprio_set": 251, "inotify_init": 253, "inotify_add_watch": 254, "migrate_pages": 256, "openat": 257,
        "fchownat": 260, "futimesat": 261, "fchmodat": 268, "unshare": 272, "move_pages": 279, "utimensat": 280,
        "accept4": 288, "inotify_init1": 294, "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "fanotify_init": 300,
        "fanotify_mark": 301, "prlimit64": 302, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "finit_module": 313, "sched_setattr": 314, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321,
        "preadv2": 327, "execveat": 322, "userfaultfd": 323, "syslog": 103,
    },
    "aarch64": {
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
        "lookup_dcookie": 18, "fcntl": 25, "inotify_init1": 26, "inotify_add_watch": 27, "ioctl": 29, "ioprio_set": 30,
        "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "truncate": 45, "chroot": 51, "fchmod": 52,
        "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "vhangup": 58, "quotactl": 60, "utimensat": 88,
        "acct": 89, "capset": 91, "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105,
        "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117, "sched_setparam": 118,
        "sched_setscheduler": 119, "sched_setaffinity": 122, "kill": 129, "tkill": 130, "tgkill": 131,
        "rt_sigqueueinfo": 138, "setpriority": 140, "reboot": 142, "setregid": 143, "setgid": 144, "setreuid": 145,
        "setuid": 146, "setresuid": 147, "setresgid": 149, "setfsuid": 151, "setfsgid": 152, "setpgid": 154,
        "setgroups": 159, "sethostname": 161, "setdomainname": 162, "prctl": 167, "settimeofday": 170, "adjtimex": 171,
        "mq_open": 180, "mq_unlink": 181, "mq_timedsend": 182, "mq_timedreceive": 183, "mq_notify": 184,
        "mq_getsetattr": 185, "msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191,
        "semtimedop": 192, "semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "shmdt": 197, "socket": 198,
        "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "add_key": 217,
        "request_key": 218, "keyctl": 219, "clone": 220, "execve": 221, "mmap": 222, "fadvise64": 223, "swapon": 224,
        "swapoff": 225, "mincore": 232, "migrate_pages": 238, "move_pages": 239, "rt_tgsigqueueinfo": 240,
        "perf_event_open": 241, "accept4": 242, "prlimit64": 261, "fanotify_init": 262, "fanotify_mark": 263,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "sched_setattr": 274, "memfd_create": 279,
        "bpf": 280, "execveat": 281, "userfaultfd": 282, "preadv2": 286, "kexec_file_load": 294,
    },
}  # fmt: skip

HIDDEN = ("clone3", "openat2")
"""Said not to exist: what they do is hidden behind a pointer."""
CONDITIONAL = (
    *("clone", "fadvise64", "fcntl", "ioctl", "kill", "mmap", "open", "openat", "prctl", "preadv2", "prlimit64"),
    *("socketpair", "tgkill"),
)
"""Allowed with some arguments; see `conditions`. All else that has a number above is denied with EPERM."""

STARTING = ("fork", "vfork", "execve", "setpgid", "tkill", "utime", "utimes", "futimesat", "utimensat")
"""Allowed where processes may be started: what starts them, signals (none leaves the namespace) and, as programs set
them all the time, the times of files (none but the worker's own can be written)."""
MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
"""Likewise, but for modes that make a program run as its owner; the place of the mode among the arguments."""
SPECIAL = 0o7000

CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
O_ACCMODE, O_TRUNC = 0o3, 0o1000
FCNTL = (*range(8), 36, 37, 38, 1030, 1032, 1034)
"""Copies and flags of a descriptor, and locks. Not F_SETOWN and F_SETSIG, with which the kernel sends a signal to
another process, not leases, and not a larger pipe."""
IOCTL = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS and TCGETS2 (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
PRCTL = (1, 4, 35, 36)
"""Denied: the signal at the parent's death, whether memory may be read by others, the memory map, a subreaper."""
AF_UNIX, SOCK_STREAM, SOCK_TYPE = 1, 1, 0xF
SHARED_ANONYMOUS = 0x21
"""MAP_SHARED and MAP_ANONYMOUS: memory of nobody in particular, which stays when no process has it in its own."""
DONTNEED = 4
"""POSIX_FADV_DONTNEED. With it, `mincore` and reads that do not wait, what is cached of a file that all may read would
carry messages from one worker to the next."""


def load(offset: int) -> Instruction:
    """Take 32 bits of what is known of the call."""
    return LOAD, 0, 0, offset


def argument(place: int) -> Instruction:
    """The low half of an argument: each that is looked at here is an int to the kernel."""
    return load(ARGUMENTS + 8 * place)


def give(value: int) -> Instruction:
    """Answer."""
    return RETURN, 0, 0, value


DENY, ACCEPT, ABSENT = give(ERRNO | EPERM), give(ALLOW), give(ERRNO | ENOSYS)


def one_of(values: Iterable[int], then: Instruction, otherwise: Instruction) -> Program:
    """By the value that has been loaded."""
    program: Program = []
    for value in values:
        program += [(JUMP_EQUAL, 0, 1, value), then]
    return [*program, otherwise]


def opening(flags: int) -> Program:
    """Allow no access mode 3, and no truncation of a file that is opened to be read.

    Landlock asks nothing of the first, and before its ABI 3 nothing of the second: a file could be emptied with them.
    """
    return [
        argument(flags),
        (AND, 0, 0, O_ACCMODE | O_TRUNC),
        *one_of((O_TRUNC, O_ACCMODE, O_ACCMODE | O_TRUNC), DENY, ACCEPT),
    ]


def conditions(processes: bool = False) -> dict[str, Program]:
    """What is done with each call of which some are allowed; every block ends in an answer."""
    return _single() | (_several() if processes else {})


def _several() -> dict[str, Program]:
    """What is different where processes may be started. Signals: those inside are all of one candidate."""
    return {
        "clone": [argument(0), (JUMP_ANY_BIT, 0, 1, CLONE_NEW), DENY, ACCEPT],
        "kill": [ACCEPT],
        "tgkill": [ACCEPT],
        "mmap": [argument(3), (AND, 0, 0, SHARED_ANONYMOUS), *one_of([SHARED_ANONYMOUS], DENY, ACCEPT)],
        **{name: [argument(place), (JUMP_ANY_BIT, 0, 1, SPECIAL), DENY, ACCEPT] for name, place in MODES.items()},
    }


def _single() -> dict[str, Program]:
    return {
        "clone": [argument(0), (JUMP_ANY_BIT, 0, 1, CLONE_NEW), DENY, (JUMP_ANY_BIT, 1, 0, CLONE_THREAD), DENY, ACCEPT],
        "fadvise64": [argument(3), *one_of([DONTNEED], DENY, ACCEPT)],
        "fcntl": [argument(1), *one_of(FCNTL, ACCEPT, DENY)],
        "ioctl": [argument(1), *one_of(IOCTL, ACCEPT, give(ERRNO | ENOTTY))],
        "kill": [argument(0), *one_of([PID], ACCEPT, DENY)],
        "tgkill": [argument(0), *one_of([PID], ACCEPT, DENY)],
        "open": opening(1),
        "openat": opening(2),
        "mmap": [ACCEPT],
        "preadv2": [argument(5), *one_of([0], ACCEPT, DENY)],
        "prctl": [argument(0), *one_of(PRCTL, DENY, ACCEPT)],
        "prlimit64": [argument(0), *one_of([0, PID], ACCEPT, DENY)],
        # a datagram socket of a pair can still send to any address
        "socketpair": [
            argument(0),
            (JUMP_EQUAL, 1, 0, AF_UNIX),
            DENY,
            argument(1),
            (AND, 0, 0, SOCK_TYPE),
            *one_of([SOCK_STREAM], ACCEPT, DENY),
        ],
    }


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbours joined: (first, last)."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def program(machine: str, processes: bool = False) -> Program:
    """The filter of an architecture. A call of another architecture (32 bits) kills the process.

    `processes`: whether the worker may start any.
    """
    numbers = OWN[machine] | SHARED
    conditional = conditions(processes)
    allowed = STARTING if processes else ()
    made: Program = [
        load(ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT[machine]),
        give(KILL),
        load(NUMBER),
        (JUMP_GREATER, 0, 1, NEWEST),
        ABSENT,
        *[part for name in HIDDEN for part in ((JUMP_EQUAL, 0, 1, numbers[name]), ABSENT)],
    ]
    for first, last in ranges(
        number for name, number in numbers.items() if name not in (*HIDDEN, *conditional, *allowed)
    ):
        made += [(JUMP_AT_LEAST, 0, 2, first), (JUMP_GREATER, 1, 0, last), DENY]
    for name, block in conditional.items():
        if name in numbers:
            made += [(JUMP_EQUAL, 0, len(block), numbers[name]), *block]
    return [*made, ACCEPT]


def assembled(machine: str, processes: bool = False) -> bytes:
    """The filter as the kernel takes it."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program(machine, processes))


def module() -> str:
    """The source of the module."""
    lines = [
        '"""The system calls a candidate may not make, as BPF. Made by scripts/make_seccomp.py, which says why.',
        "",
        "What the filters do not guard is said in seccomp.py.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        f"PID = 0x{PID:08X}",
        '"""Stands for the process id of the worker, which fills it in."""',
    ]
    for table, processes in (("BASE64", False), ("WITH_PROCESSES", True)):
        lines += [f"{table} = {{"]
        for machine in OWN:
            code = base64.b64encode(assembled(machine, processes)).decode()
            lines += [f'    "{machine}": (', *(f'        "{line}"' for line in textwrap.wrap(code, 100)), "    ),"]
        lines += ["}"]
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> int:
    """Write the module, or say whether it is up to date."""
    if "--check" in arguments:
        return int(TARGET.read_text(encoding="utf-8") != module())
    TARGET.write_text(module(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
