"""What a wait was for, in plain words, told from the kernel functions on its stack.

The functions are those of Linux 4.9 to 6.18; the comments name the files they live in. A function
that the compiler cloned (``.constprop.0``, ``.isra.0``, ``.part.0``) counts as itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from systemscope.model import Frame, FrameKind, State


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions of kernel/sched/core.c, kernel/sched/wait_bit.c, kernel/time/ and fs/select.c that say
#: how a thread waits, not for what.
SCHEDULER = _words(
    """
    __schedule schedule schedule_idle schedule_preempt_disabled schedule_timeout
    schedule_timeout_interruptible schedule_timeout_uninterruptible schedule_timeout_killable
    schedule_hrtimeout schedule_hrtimeout_range schedule_hrtimeout_range_clock
    preempt_schedule preempt_schedule_irq preempt_schedule_common preempt_schedule_notrace
    poll_schedule_timeout io_schedule io_schedule_timeout __cond_resched _cond_resched
    bit_wait bit_wait_io
    """
)

#: Kernel entry and thread start (arch/*/entry, arch/*/kernel/process.c, kernel/kthread.c): on every
#: stack, telling nothing.
ENTRY = _words(
    """
    do_syscall_64 x64_sys_call do_syscall_x64 entry_SYSCALL_64 entry_SYSCALL_64_after_hwframe
    entry_SYSCALL_64_fastpath entry_SYSCALL_compat_after_hwframe entry_INT80_compat
    do_fast_syscall_32 do_int80_emulation ret_from_fork ret_from_fork_asm kthread
    el0_svc el0_svc_common el0_svc_handler do_el0_svc invoke_syscall el0_sync el0t_64_sync
    el0t_64_sync_handler el0_sync_handler exit_to_user_mode_loop syscall_exit_to_user_mode
    irqentry_exit irqentry_exit_to_user_mode exit_to_user_mode_prepare
    """
)

_WORDS = {
    # kernel/futex/, kernel/futex.c
    "a lock or a condition (futex)": "futex_do_wait futex_wait_queue futex_wait_queue_me "
    "__futex_wait futex_wait futex_wait_multiple futex_wait_requeue_pi",
    "a lock with priority inheritance (futex)": "futex_lock_pi",
    # kernel/time/hrtimer.c, kernel/time/posix-cpu-timers.c
    "a set time (nanosleep)": "do_nanosleep hrtimer_nanosleep do_cpu_nanosleep",
    # kernel/time/sleep_timeout.c
    "a set time (in the kernel)": "msleep msleep_interruptible usleep_range usleep_range_state",
    # fs/select.c, fs/eventpoll.c
    "events (poll)": "do_sys_poll do_poll",
    "events (select)": "do_select core_sys_select",
    "events (epoll)": "ep_poll do_epoll_wait",
    # fs/pipe.c
    "data from a pipe": "pipe_read anon_pipe_read fifo_pipe_read",
    "room in a pipe": "pipe_write anon_pipe_write fifo_pipe_write",
    "the other end of a FIFO": "wait_for_partner fifo_open",
    # net/unix/af_unix.c
    "data from a local socket": "unix_stream_data_wait unix_stream_read_generic "
    "unix_stream_recvmsg __unix_dgram_recvmsg unix_dgram_recvmsg",
    "a connection (local socket)": "unix_accept",
    "room in a local socket": "unix_wait_for_peer unix_stream_sendmsg unix_dgram_sendmsg",
    # net/ipv4/, net/core/
    "data from a TCP connection": "tcp_recvmsg_locked tcp_recvmsg tcp_data_wait",
    "room to send (TCP)": "sk_stream_wait_memory tcp_sendmsg_locked tcp_sendmsg",
    "a connection (TCP accept)": "inet_csk_accept inet_accept",
    "a connection (TCP connect)": "inet_wait_for_connect __inet_stream_connect",
    "a datagram (UDP)": "__skb_recv_udp udp_recvmsg udpv6_recvmsg",
    "a packet (raw socket)": "raw_recvmsg rawv6_recvmsg packet_recvmsg",
    "a message from the kernel (netlink)": "netlink_recvmsg",
    "data from a host socket (vsock)": "__vsock_stream_recvmsg vsock_connectible_recvmsg",
    "a connection (vsock)": "vsock_accept",
    # kernel/exit.c, kernel/fork.c, kernel/pid_namespace.c
    "a child to end (wait)": "do_wait kernel_wait4 kernel_waitid do_wait4",
    "a vforked child to exec or end": "wait_for_vfork_done",
    "its PID namespace to empty": "zap_pid_ns_processes",
    # kernel/signal.c, kernel/freezer.c, kernel/cgroup/freezer.c
    "a signal": "do_sigtimedwait sigsuspend sys_pause do_sys_pause",
    "SIGCONT (stopped)": "do_signal_stop do_jobctl_trap",
    "its debugger (ptrace)": "ptrace_stop ptrace_notify",
    "being thawed (frozen)": "__refrigerator do_freezer_trap",
    # drivers/tty/
    "input from a terminal": "n_tty_read",
    "room in a terminal": "n_tty_write",
    # fs/eventfd.c, fs/timerfd.c, fs/signalfd.c, fs/notify/
    "an event (eventfd)": "eventfd_read",
    "a timer (timerfd)": "timerfd_read timerfd_read_iter",
    "a signal (signalfd)": "signalfd_read signalfd_read_iter",
    "a file system event (inotify)": "inotify_read fanotify_read",
    # fs/locks.c
    "a file lock": "flock_lock_inode_wait posix_lock_inode_wait locks_lock_inode_wait "
    "fcntl_setlk do_lock_file_wait",
    # ipc/
    "a message (System V queue)": "do_msgrcv do_msgsnd",
    "a System V semaphore": "do_semtimedop __do_semtimedop",
    "a message (POSIX queue)": "wq_sleep do_mq_timedreceive do_mq_timedsend",
    # fs/aio.c, io_uring/
    "completions (AIO)": "read_events",
    "completions (io_uring)": "io_cqring_wait",
    "work (io_uring)": "io_wq_worker io_sq_thread",
    # mm/filemap.c, mm/memory.c, mm/migrate.c, fs/userfaultfd.c
    "a page of a file (page fault)": "filemap_fault",
    "file data from storage (read)": "filemap_read filemap_get_pages generic_file_read_iter "
    "generic_file_buffered_read",
    "written data to reach storage": "folio_wait_writeback wait_on_page_writeback "
    "__filemap_fdatawait_range file_write_and_wait_range",
    "a page from swap (page fault)": "do_swap_page",
    "a page that is being moved": "migration_entry_wait softleaf_entry_wait",
    "its page-fault handler (userfaultfd)": "handle_userfault",
    # mm/page-writeback.c, mm/vmscan.c, mm/memcontrol.c
    "dirty pages to be written (throttled)": "balance_dirty_pages",
    "memory to be freed (reclaim)": "try_to_free_pages do_try_to_free_pages reclaim_throttle",
    "memory of its cgroup to be freed": "try_to_free_mem_cgroup_pages "
    "mem_cgroup_handle_over_high __mem_cgroup_handle_over_high mem_cgroup_oom_synchronize",
    # block/, fs/direct-io.c, fs/iomap/, fs/buffer.c
    "a free slot of the disk's queue": "blk_mq_get_tag get_request",
    "its turn to write (throttled disk)": "rq_qos_wait wbt_wait",
    "direct I/O": "iomap_dio_rw __iomap_dio_rw __blkdev_direct_IO __blkdev_direct_IO_simple "
    "__blockdev_direct_IO blkdev_direct_IO dio_await_completion",
    "a disk operation": "submit_bio_wait blkdev_issue_flush blk_execute_rq __bread_gfp "
    "__wait_on_buffer",
    # fs/jbd2/, fs/xfs/, fs/fs-writeback.c
    "the journal (ext4)": "jbd2_log_wait_commit do_get_write_access wait_transaction_locked "
    "add_transaction_credits",
    "the log (XFS)": "xlog_wait_on_iclog xfs_log_force xfs_log_force_seq",
    "a sync of the file system": "wb_wait_for_completion sync_inodes_sb",
    # fs/fuse/, net/sunrpc/, net/9p/
    "a FUSE file system": "request_wait_answer",
    "requests (FUSE server)": "fuse_dev_do_read",
    "an NFS server": "rpc_wait_bit_killable nfs_wait_bit_killable",
    "a 9p server": "p9_client_rpc",
    # kernel/locking/, kernel/rcu/, kernel/workqueue.c, kernel/sched/fair.c
    "a lock in the kernel": "rwsem_down_read_slowpath rwsem_down_write_slowpath "
    "rwsem_down_read_failed rwsem_down_write_failed __mutex_lock __mutex_lock_slowpath mutex_lock "
    "__down __down_common percpu_rwsem_wait rt_mutex_slowlock rt_mutex_lock",
    "a grace period (RCU)": "synchronize_rcu __wait_rcu_gp wait_rcu_gp rcu_barrier",
    "work of a kernel worker": "__flush_work __flush_workqueue flush_workqueue",
    "its next period (CPU quota)": "throttle_cfs_rq_work",
    # virt/kvm/, arch/x86/kvm/
    "its guest, which is idle (KVM)": "kvm_vcpu_block kvm_vcpu_halt kvm_arch_vcpu_ioctl_run",
    # kernel/workqueue.c and threads of the kernel's own
    "work (kernel worker)": "worker_thread rescuer_thread kthread_worker_fn",
    "work (kernel thread)": "smpboot_thread_fn rcu_gp_kthread rcu_nocb_gp_kthread kthreadd kswapd "
    "kcompactd kcompactd0 khugepaged kjournald2 kdamond_fn oom_reaper kauditd_thread",
}

#: Helpers that many kinds of waits share: they name one only where no other function does.
_SHARED = {
    # mm/filemap.c
    "a page of a file": "folio_wait_bit_common folio_wait_bit wait_on_page_bit "
    "wait_on_page_bit_common __lock_page folio_lock __folio_lock",
    # kernel/sched/completion.c, kernel/sched/wait.c
    "an event in the kernel": "wait_for_completion wait_for_completion_timeout "
    "wait_for_completion_killable wait_for_completion_interruptible wait_for_completion_state "
    "__wait_for_common wait_woken",
    # net/core/
    "data from a socket": "sk_wait_data __skb_wait_for_more_packets",
    "room in a socket": "sock_alloc_send_pskb sock_wait_for_wmem",
    # kernel/kthread.c: the root of every thread of the kernel's own
    "work (kernel thread)": "kthread",
}


def _by_function(words: dict[str, str]) -> dict[str, str]:
    return {name: reason for reason, names in words.items() for name in names.split()}


_REASONS = _by_function(_WORDS)
_SHARED_REASONS = _by_function(_SHARED)
_CLONE = re.compile(r"\.(?:constprop|isra|part|cold|llvm)\b.*")
_SYSTEM_CALL = re.compile(r"__(?:x64|ia32|arm64|riscv|s390x|se|do)_(?:compat_)?sys_(\w{1,40})")
_STATE_WORDS = {
    State.SLEEPING: "something interruptible",
    State.DISK: "something uninterruptible",
    State.STOPPED: "SIGCONT (stopped)",
    State.TRACED: "its debugger (ptrace)",
    State.IDLE: "work (kernel worker)",
    State.PARKED: "being unparked (kernel thread)",
    State.BLOCKED: "something",
}


def reason(frames: Sequence[Frame], state: State) -> str:
    """What a thread in ``state`` with ``frames`` (leaf first) waited for."""
    shared = call = ""
    for frame in frames:
        if frame.kind is not FrameKind.KERNEL:
            continue
        name = base_name(frame.name)
        found = _REASONS.get(name)
        if found:
            return found
        shared = shared or _SHARED_REASONS.get(name, "")
        match = _SYSTEM_CALL.match(name)
        if match:
            call = f"the system call {match[1]}"
    return shared or call or _STATE_WORDS.get(state, "something")


def base_name(name: str) -> str:
    """``name`` without what the compiler appended to it."""
    return _CLONE.sub("", name) if "." in name else name


def in_scheduler(frame: Frame) -> bool:
    """True for a function that says how a thread waits, not for what."""
    return frame.kind is FrameKind.KERNEL and base_name(frame.name) in SCHEDULER


def at_entry(frame: Frame) -> bool:
    """True for kernel functions on which every stack stands."""
    return frame.kind is FrameKind.KERNEL and (
        frame.name in ENTRY or frame.name.startswith(("asm_", "entry_"))
    )
