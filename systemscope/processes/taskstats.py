"""The kernel's own accounts of what threads waited for, over generic netlink.

pyroute2's message classes name the family and encode requests; the bytes move over a plain socket
and the answers are decoded here: a query costs some 3 microseconds where pyroute2's socket takes
110, and pyroute2 knows fewer versions of the struct than there are. Sources: ``kernel/taskstats.c``
and ``Documentation/accounting/taskstats.rst``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

from systemscope.errors import KernelError, PermissionMissing, SystemScopeError, Unsupported
from systemscope.model.delays import DelayKind
from systemscope.processes import taskstats_abi as abi
from systemscope.processes.taskstats_abi import Answer, Attribute, MessageFlag, MessageType

#: Queries sent at once; their answers wait in the socket's buffer, so few enough to fit there.
BATCH = 32
QUERY_BUFFER = 1 << 20
#: Room for the accounts of ended threads between two looks: some 10,000. Used only when needed.
EXIT_BUFFER = 32 << 20
_LARGEST = 16_384  # bytes of one message; two structs and their headers are about 1,200
_PATIENCE_SECONDS = 0.5  # for the end of a thread that has nothing to do

_HEADER = struct.Struct("=IHHII")
_GENERIC = abi.GENERIC_HEADER.size
_ATTRIBUTE = struct.Struct("=HH")
_U16, _U32, _I32 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=i")
_SEQUENCE_AT = abi.MESSAGE_HEADER.fields["nlmsg_seq"].offset
_NESTED = 0x3FFF  # the type without NLA_F_NESTED and NLA_F_NET_BYTEORDER


class Account(NamedTuple):
    """One thread's sums since it was born, as they were at ``time`` (CLOCK_MONOTONIC ns).

    ``age`` is its age in ns then. ``values`` holds count and nanoseconds of each of
    :attr:`TaskStats.kinds` in turn.
    """

    tid: int
    time: int
    age: int
    values: tuple[int, ...]


class Reading(NamedTuple):
    """The kernel's answer about ``tid`` at ``time``, as it came."""

    tid: int
    time: int
    data: bytes


class TaskStats:
    """A conversation with the TASKSTATS family. Owns its sockets: close it, or use ``with``.

    Raises Unsupported where the family is missing, PermissionMissing without CAP_NET_ADMIN,
    SystemScopeError without pyroute2, KernelError when the kernel refuses otherwise.
    """

    def __init__(self) -> None:
        self.kinds: tuple[DelayKind, ...] = ()
        self.overruns = 0  # times the kernel found no room for the account of an ended thread
        self._fields: dict[tuple[int, int], Optional[abi.Fields]] = {}
        self._sequence = 0
        self._listener: Optional[socket.socket] = None
        self._deregister = b""
        self._query = _open_socket(QUERY_BUFFER)
        try:
            self._family = self._find_family()
            self._template = _request(self._family, Attribute.PID, 0)
            own = self._ask_one(os.getpid())
        except BaseException:
            self._query.close()
            raise
        #: False where the kernel keeps no accounts at all: not even of our own time on a CPU.
        self.counts = any(own.values[:2])

    def close(self) -> None:
        """Ask for no more accounts of ended threads and give the sockets back."""
        if self._listener is not None:
            with contextlib.suppress(OSError):  # the kernel forgets a listener that is gone
                self._listener.send(self._deregister)
            self._listener.close()
            self._listener = None
        self._query.close()

    def __enter__(self) -> TaskStats:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- queries

    def ask(self, tids: Iterable[int]) -> dict[int, Reading]:
        """Answers about ``tids`` as of now, not decoded: half the time of a query is left for
        later. A thread that is gone has none, or one without an account."""
        listed = list(tids)
        found: dict[int, Reading] = {}
        for at in range(0, len(listed), BATCH):
            self._ask_batch(listed[at : at + BATCH], found)
        return found

    def _ask_batch(self, tids: Sequence[int], found: dict[int, Reading]) -> None:
        first = self._sequence
        requests = bytearray(self._template * len(tids))
        size = len(self._template)
        for number, tid in enumerate(tids, 1):
            _U32.pack_into(requests, (number - 1) * size + _SEQUENCE_AT, first + number)
            _U32.pack_into(requests, number * size - 4, tid)
        self._sequence = (first + len(tids)) & 0x7FFFFFFF
        before = time.monotonic_ns()
        try:
            self._query.send(requests)  # the kernel answers all of them before this returns
            when = (before + time.monotonic_ns()) // 2
            for _ in tids:
                data = _receive(self._query)
                if data is None:
                    break
                number = _U32.unpack_from(data, _SEQUENCE_AT)[0] - first
                if 1 <= number <= len(tids):
                    found[tids[number - 1]] = Reading(tids[number - 1], when, data)
        except OSError as error:
            raise KernelError("query", "taskstats", error.errno or 0) from error

    def account(self, reading: Reading) -> Optional[Account]:
        """What an answer says; None when the thread was gone."""
        for kind, _, start, end in _messages(reading.data):
            if kind == self._family:
                found = self._account(reading.data, start, end, reading.time)
                return found._replace(tid=reading.tid) if found is not None else None
        return None

    def read(self, tids: Iterable[int]) -> dict[int, Account]:
        """The accounts of ``tids`` now. Threads that are gone are left out."""
        found = {tid: self.account(reading) for tid, reading in self.ask(tids).items()}
        return {tid: account for tid, account in found.items() if account is not None}

    def _ask_one(self, tid: int) -> Account:
        """One thread's account. Raises what the class raises."""
        request = bytearray(self._template)
        _U32.pack_into(request, len(request) - 4, tid)
        data, start, end = _converse(self._query, bytes(request))
        account = self._account(data, start, end, time.monotonic_ns())
        if account is None:
            raise Unsupported("a taskstats struct with delay accounting", "2.6.19")
        return account

    def _find_family(self) -> int:
        try:
            data, start, end = _converse(self._query, _family_request())
        except Unsupported as error:
            raise Unsupported("taskstats", remedy=_where_it_is()) from error
        for kind, at, stop in _attributes(data, start + _GENERIC, end):
            if kind == abi.CTRL_ATTR_FAMILY_ID and stop - at >= 2:
                return int(_U16.unpack_from(data, at)[0])
        raise Unsupported("taskstats")

    # -- ended threads

    def listen(self, cpus: str) -> None:
        """From now on keep the accounts of all threads that end on ``cpus`` (a list such as
        "0-3"). Raises KernelError: EINVAL in a PID or user namespace of one's own; Unsupported in
        a network namespace of one's own, where the kernel takes us on but tells us nothing.
        Starts and ends a thread to find out."""
        listener = _open_socket(EXIT_BUFFER)
        try:
            register = _request(self._family, Attribute.REGISTER_CPUMASK, cpus)
            _converse(listener, register)
        except BaseException:
            listener.close()
            raise
        self._deregister = _request(self._family, Attribute.DEREGISTER_CPUMASK, cpus)
        self._listener = listener
        if not self._hears():
            self._listener = None
            listener.close()
            raise Unsupported("accounts of ended threads in this network namespace")

    def _hears(self) -> bool:
        """Whether the account of a thread of our own arrives as it ends."""
        probe = threading.Thread(target=bool)
        probe.start()
        tid = probe.native_id
        probe.join()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if any(account.tid == tid for account in self.exits(1000)):
                return True
            time.sleep(0.001)  # join() returns before the kernel's part of the end
        return False

    def exits(self, limit: int) -> list[Account]:
        """At most ``limit`` accounts of threads that ended, in the order they did on each CPU.
        ``time`` is when they were read, some time later."""
        found: list[Account] = []
        if self._listener is None:
            return found
        when = time.monotonic_ns()
        while len(found) < limit:
            try:
                data = _receive(self._listener)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError("read", "taskstats", error.errno or 0) from error
                self.overruns += 1
                continue
            if data is None:
                break
            for kind, _, start, end in _messages(data):
                if kind == self._family:
                    account = self._account(data, start, end, when)
                    if account is not None:
                        found.append(account)
        return found

    def _account(self, data: bytes, start: int, end: int, when: int) -> Optional[Account]:
        """The thread's struct among the attributes of a message's body."""
        for kind, at, stop in _attributes(data, start + _GENERIC, end):
            if kind != Answer.AGGR_PID:
                continue
            tid = 0
            for inner, first, last in _attributes(data, at, stop):
                if inner == Answer.PID and last - first >= 4:
                    tid = _U32.unpack_from(data, first)[0]
                elif inner == Answer.STATS and last - first >= 2:
                    return self._decode(data, first, last, tid, when)
        return None

    def _decode(self, data: bytes, start: int, end: int, tid: int, when: int) -> Optional[Account]:
        form = (_U16.unpack_from(data, start)[0], end - start)
        if form not in self._fields:
            if len(self._fields) >= 8:  # one kernel has one form
                return None
            self._fields[form] = abi.fields_of(*form)
        fields = self._fields[form]
        if fields is None:
            return None
        self.kinds = fields.kinds
        age_us, values = fields.read(data, start)
        return Account(tid, when, age_us * 1000, values)


def _open_socket(room: int) -> socket.socket:
    try:
        made = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, abi.NETLINK_GENERIC
        )
    except OSError as error:
        raise KernelError("opening", "a netlink socket", error.errno or 0) from error
    try:
        made.bind((0, 0))
        try:
            made.setsockopt(socket.SOL_SOCKET, abi.SO_RCVBUFFORCE, room)
        except OSError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    except OSError as error:
        made.close()
        raise KernelError("opening", "a netlink socket", error.errno or 0) from error
    return made


def _pyroute2() -> tuple[Any, Any]:
    """pyroute2's messages: (of the controller, of a taskstats request)."""
    try:
        from pyroute2.netlink import ctrlmsg
        from pyroute2.netlink.taskstats import tcmd
    except ImportError as error:
        raise SystemScopeError(
            "delay accounts are read through pyroute2, which is not installed",
            "python3 -m pip install pyroute2",
        ) from error
    return ctrlmsg, tcmd


def _family_request() -> bytes:
    message = _pyroute2()[0]()
    message["header"]["type"] = abi.GENL_ID_CTRL
    message["header"]["flags"] = int(MessageFlag.REQUEST)
    message["cmd"], message["version"] = abi.CTRL_CMD_GETFAMILY, 1
    message["attrs"].append(["CTRL_ATTR_FAMILY_NAME", abi.FAMILY])
    message.encode()
    return bytes(message.data)


def _request(family: int, attribute: Attribute, value: object) -> bytes:
    """A GET with one attribute. Registering is acknowledged; a query is answered anyhow."""
    flags = MessageFlag.REQUEST
    if attribute in (Attribute.REGISTER_CPUMASK, Attribute.DEREGISTER_CPUMASK):
        flags |= MessageFlag.ACK
    message = _pyroute2()[1]()
    message["header"]["type"], message["header"]["flags"] = family, int(flags)
    message["cmd"], message["version"] = int(abi.Command.GET), 1
    message["attrs"].append([f"TASKSTATS_CMD_ATTR_{attribute.name}", value])
    message.encode()
    return bytes(message.data)


def _converse(over: socket.socket, request: bytes) -> tuple[bytes, int, int]:
    """Send one request; the answer and where its body lies. Raises on an error's number."""
    try:
        over.send(request)
        data = _receive(over)
    except OSError as error:
        raise KernelError("query", "taskstats", error.errno or 0) from error
    for kind, _, start, end in _messages(data or b""):
        number = -_I32.unpack_from(data or b"", start)[0] if kind == MessageType.ERROR else 0
        if number == errno.ENOENT:
            raise Unsupported("taskstats")
        if number in (errno.EPERM, errno.EACCES):
            raise PermissionMissing("taskstats", "run as root, or with CAP_NET_ADMIN")
        if number:
            raise KernelError("query", "taskstats", number)
        return data or b"", start, end
    raise KernelError("query", "taskstats", errno.EPROTO)


def _receive(over: socket.socket) -> Optional[bytes]:
    """The next datagram of the kernel; None when none waits."""
    while True:
        try:
            data, sender = over.recvfrom(_LARGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        # Others with CAP_NET_ADMIN may write to us too.
        if sender[0] == 0 and len(data) >= _HEADER.size:
            return data


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(type, sequence, where the body begins, where it ends) of each whole netlink message."""
    at = 0
    while at + _HEADER.size + 4 <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size + 4 or at + length > len(data):
            return
        yield kind, sequence, at + _HEADER.size, at + length
        at += length + 3 & ~3


def _attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, where its value begins, where it ends) of each whole attribute from ``at`` on."""
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > end:
            return
        yield kind & _NESTED, at + _ATTRIBUTE.size, at + length
        at += length + 3 & ~3


def _where_it_is() -> str:
    try:
        apart = os.readlink("/proc/self/ns/net") != os.readlink("/proc/1/ns/net")
    except OSError:
        apart = False
    if apart:
        return "it answers only in the host's network namespace: run SystemScope there"
    return "it needs CONFIG_TASKSTATS and the host's network namespace"
