"""Raw Linux system calls: ABI layouts, ``bpf()``, ``perf_event_open()``, owned descriptors.

The only package that uses ctypes. Every failure raises :class:`systemscope.errors.KernelError`
with the errno, what was asked of what, and a remedy where there is one. x86-64 and aarch64.
"""
