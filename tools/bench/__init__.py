"""What profiling costs: SystemScope beside the tools people use, where they are installed.

``python -m tools.bench [--only storm|cost|startup|encode|unwind]`` prints tables. It asserts
nothing: absolute figures are the machine's, proportions carry over.
"""
