"""Attachments: programs on tracepoints, perf events, probes and iterators."""

from __future__ import annotations

import errno
import os
from typing import Optional

from systemscope.bpf import kprobe_events
from systemscope.bpf.owned import Owned
from systemscope.bpf.perf import PerfEvent
from systemscope.bpf.program import Program
from systemscope.bpfasm.types import AttachType
from systemscope.errors import KernelError
from systemscope.syscalls import bpf, perf
from systemscope.syscalls.fd import Fd

_READ_BYTES = 1 << 16
# Refusals of BPF_LINK_CREATE that mean "not on this kernel": ioctl attachment serves then.
_NO_LINK = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, bpf.ENOTSUPP, errno.EPERM))


class Link(Owned):
    """One attachment, which ends when this closes or its process dies.

    ``event`` is the perf event it hangs on when it opened one itself: closed with the link.
    """

    def __init__(
        self, fd: Fd, event: Optional[PerfEvent] = None, probe: Optional[kprobe_events.Probe] = None
    ) -> None:
        super().__init__(fd)
        self._event = event
        self._probe = probe

    @staticmethod
    def raw_tracepoint(program: Program, name: str = "") -> Link:
        """A RAW_TRACEPOINT program on tracepoint ``name``; without a name, a TRACING program
        (tp_btf, fentry, fexit) on what it was bound to at load.
        """
        return Link(bpf.raw_tracepoint_open(program.fd, name))

    @staticmethod
    def iterator(
        program: Program, pid: Optional[int] = None, tid: Optional[int] = None
    ) -> IterLink:
        """An iterator over all tasks, or the threads of process ``pid``, or thread ``tid`` (6.1:
        EINVAL before).
        """
        attach = int(AttachType.TRACE_ITER)
        return IterLink(bpf.link_create_iterator(program.fd, attach, pid or 0, tid or 0))

    @staticmethod
    def perf_event(event: PerfEvent, program: Program, *, link: bool = True) -> Link:
        """A program on ``event``, which stays its owner's.

        By bpf_link (5.15), or else by ioctl; ``link`` False asks for the ioctl. An attachment by
        ioctl ends with the event: closing its Link only disables the event.
        """
        if link:
            try:
                attach = int(AttachType.PERF_EVENT)
                return Link(bpf.link_create_perf_event(program.fd, event.fd, attach))
            except KernelError as error:
                if error.errno not in _NO_LINK:
                    raise
        try:
            event.set_program(program.fd)
        except KernelError as error:
            if error.errno != errno.EEXIST:  # this very program is there already
                raise
        return EventLink(Fd(os.dup(event.fd), "perf event attachment"), event)

    @staticmethod
    def tracepoint(program: Program, id: int, *, link: bool = True, cpu: int = 0) -> Link:
        """A TRACEPOINT program on the tracepoint of tracefs number ``id``, on all CPUs.

        One event suffices: the program hangs on the tracepoint, not on ``cpu`` (an online one).
        EEXIST before 4.15 when another program is there, since a tracepoint took only one.
        """
        attr = perf.PerfEventAttr(
            type=perf.PerfType.TRACEPOINT,
            config=id,
            sample_period=1,
            flags=perf.AttrFlag.DISABLED,
        )
        return _on_own_event(PerfEvent.open(attr, -1, cpu), program, link)

    @staticmethod
    def kprobe(
        program: Program,
        symbol: str,
        *,
        offset: int = 0,
        retprobe: bool = False,
        tracefs: str = "",
        link: bool = True,
        cpu: int = 0,
    ) -> Link:
        """A KPROBE program on kernel function ``symbol``, on all CPUs.

        By the perf kprobe PMU (4.17); where that is missing, by a probe defined in ``tracefs``
        (a mount point), which is removed when the link closes. KernelError when there is neither,
        or the function cannot be probed.
        """
        pmu = kprobe_events.pmu()
        if pmu is not None:
            event = pmu.open(symbol, offset, retprobe, cpu)
            return _on_own_event(event, program, link)
        if not tracefs:
            remedy = "A kernel with CONFIG_KPROBE_EVENTS is needed."
            raise KernelError("attach", f"kprobe '{symbol}'", errno.ENODEV, remedy)
        probe = kprobe_events.Probe(tracefs, symbol, offset, retprobe)
        try:
            made = Link.tracepoint(program, probe.id, link=link, cpu=cpu)
        except BaseException:
            probe.remove()
            raise
        made._probe = probe
        return made

    def info(self) -> bpf.LinkInfo:
        """What the kernel says of the link (5.8; not of an attachment by ioctl)."""
        return bpf.link_info(self.fd)

    def close(self) -> None:
        """Detach."""
        super().close()
        if self._event is not None:
            self._event.close()
        if self._probe is not None:
            self._probe.remove()
            self._probe = None


class EventLink(Link):
    """An attachment by ioctl to an event of someone else's: it lasts as long as the event."""

    def __init__(self, fd: Fd, event: PerfEvent) -> None:
        super().__init__(fd)
        self._target = event

    def close(self) -> None:
        """Disable the event, so that the program no longer runs, and let go of it."""
        if not self.closed and not self._target.closed:
            self._target.disable()
        super().close()


class IterLink(Link):
    """An iterator: each :meth:`read_all` runs its program over all its objects."""

    def read_all(self, limit: int = 1 << 28) -> bytes:
        """All that the program writes, at most ``limit`` bytes of it."""
        output = bytearray()
        with bpf.iter_create(self.fd) as stream:
            while len(output) < limit:
                try:
                    piece = os.read(stream.number, _READ_BYTES)
                except BlockingIOError:  # EAGAIN: many objects passed without output
                    continue
                except OSError as error:
                    number = error.errno or errno.EIO
                    raise KernelError("read", "iterator", number) from None
                if not piece:
                    break
                output += piece
        return bytes(output)


def _on_own_event(event: PerfEvent, program: Program, link: bool) -> Link:
    """Attach to an event opened for this purpose alone, and give it to the link."""
    try:
        if link:
            try:
                attach = int(AttachType.PERF_EVENT)
                return Link(bpf.link_create_perf_event(program.fd, event.fd, attach), event)
            except KernelError as error:
                if error.errno not in _NO_LINK:
                    raise
        event.set_program(program.fd)
        return Link(Fd(os.dup(event.fd), "tracepoint attachment"), event)
    except BaseException:
        event.close()
        raise
