"""Exporters: one module a format, each turning a Profile into bytes on a stream.

A format is an entry in ``systemscope.exporters.formats`` and a module with
``write(profile, stream, options)``.
"""
