"""Runs SystemScope on other kernels: distribution kernels, booted by QEMU in software emulation.

``python -m tools.vm`` boots each, profiles a workload of known truth inside, and prints a table.
"""
