"""Kernel objects that own their descriptor: maps, programs, links, perf events, rings.

Each closes once, is a context manager, and leaves nothing in the kernel when its process dies,
however it dies: all are reference counted by descriptors, none is pinned.
"""
