"""The targets: what /proc, the kernel's side-band and their files say of them."""
