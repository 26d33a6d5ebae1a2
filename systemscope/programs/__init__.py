"""The BPF programs, as pure functions from configuration to ``ProgramSpec``."""
