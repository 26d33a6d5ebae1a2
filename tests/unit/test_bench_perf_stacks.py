"""How tools.bench reads what perf script writes."""

from __future__ import annotations

from tools.bench.perf_stacks import count, whole
from tools.bench.unwind import percent

LISTING = """\
perl  5990 
	ffffffff816cc1a7 inode_permission ([kernel.kallsyms])
	           33474 _nl_load_locale (/usr/lib/x86_64-linux-gnu/libc.so.6)
	           27304 __libc_start_main@@GLIBC_2.34 (/usr/lib/x86_64-linux-gnu/libc.so.6)
	           4a500 [unknown] (/usr/bin/perl)

perl  5990 PERF_RECORD_LOST lost 12

a name (x)  5991 
	           78798 perl_run (/usr/bin/perl)
	               0 [unknown] ([unknown])

kworker/0:1  7 
	ffffffff813a4413 finish_task_switch.isra.0 ([kernel.kallsyms])

load 23346 
	           24d4 encoding/json.(*decodeState).value (/tmp/load)
	           6454c runtime.goexit.abi0 (/tmp/load)
"""  # noqa: E101, W291


def test_stacks_are_counted() -> None:
    assert count(iter(LISTING.splitlines(keepends=True))) == (3, 2, 12)


def test_what_begins_a_thread() -> None:
    assert whole(["read", "start_thread", "clone3"])
    assert whole(["main", "__libc_start_main@@GLIBC_2.34", "[unknown]"])
    assert not whole(["main", "__libc_start_main", "[unknown]", "[unknown]"])
    assert not whole(["_start_it"])
    assert not whole([])


def test_less_than_all_is_never_all() -> None:
    assert percent(999_999, 1_000_000) == "99.99 %"
    assert percent(3, 3) == "100.00 %"
    assert percent(0, 0) == "-"
