"""Exporters: one module a format, each turning a Profile into bytes on a stream.

A module that declares ``FORMAT`` and ``write(profile, stream, options)`` is a format: there is no
list to keep (see ``systemscope.exporters.formats``).
"""
