"""The questions, by what they ask about. :mod:`systemscope.kernel.capabilities` asks them."""
