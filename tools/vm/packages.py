"""Kernels and guest programs from Debian's archive, without touching this machine's packages.

apt-get works on directories of its own, one for each suite and architecture, with the mirror that
this machine is already set up to use (or SYSTEMSCOPE_VM_MIRROR). What was fetched once is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools.vm.kernels import GUEST_SUITE, Kernel

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
GUEST_PACKAGES = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libffi8",
    "libexpat1",
    "zlib1g",
    "busybox-static",
)
_APT_SECONDS = 300


class NotObtainable(Exception):
    """The archive does not have it, or cannot be reached: says nothing about the project."""


def cache_directory() -> Path:
    """Where downloads are kept: SYSTEMSCOPE_VM_CACHE, else the user's cache."""
    chosen = os.environ.get("SYSTEMSCOPE_VM_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "systemscope-vm"


def kernel_image(kernel: Kernel) -> tuple[Path, str]:
    """(the kernel's file to boot, its release). Raises NotObtainable."""
    kept = cache_directory() / "kernels" / kernel.image_name
    if (kept / "release").exists():
        return kept / "vmlinuz", (kept / "release").read_text().strip()
    archive = Archive(kernel.suite, kernel.arch)
    archive.update()
    wanted = archive.dependency(kernel.package, r"linux-image-\S+")
    with tempfile.TemporaryDirectory(dir=_made(cache_directory())) as scratch:
        tree = Path(scratch)
        archive.unpack([wanted], tree)
        if not _images(tree):  # from 6.19 on the image is in a package that this one depends on
            archive.unpack([archive.dependency(wanted, r"linux-binary-\S+")], tree)
        images = _images(tree)
        if not images:
            raise NotObtainable(f"{wanted} holds no kernel image")
        _made(kept)
        shutil.copyfile(images[0], kept / "vmlinuz")
        release = wanted[len("linux-image-") :]
        (kept / "release").write_text(release + "\n")
    return kept / "vmlinuz", release


def guest_tree(arch: str, into: Path) -> None:
    """Unpack Python, its libraries and busybox for ``arch``. Raises NotObtainable."""
    archive = Archive(GUEST_SUITE, arch)
    archive.update()
    archive.unpack(GUEST_PACKAGES, into)


class Archive:
    """One suite of the archive for one architecture, in apt directories of its own."""

    def __init__(self, suite: str, arch: str) -> None:
        self.suite, self.arch = suite, arch
        self.root = cache_directory() / "apt" / f"{suite}-{arch}"

    def update(self) -> None:
        """Fetch the lists of packages."""
        for name in ("lists/partial", "archives/partial", "debs"):
            _made(self.root / name)
        (self.root / "status").touch()
        signed = f" signed-by={KEYRING}" if os.path.exists(KEYRING) else ""
        line = f"deb [arch={self.arch}{signed}] {mirror()} {self.suite} main\n"
        (self.root / "sources.list").write_text(line)
        self._run("apt-get", "update", "-q", "--error-on=any")

    def dependency(self, package: str, pattern: str) -> str:
        """The first dependency of ``package`` whose name matches."""
        shown = self._run("apt-cache", "show", package)
        for line in re.findall(r"^(?:Pre-)?Depends: (.*)$", shown, re.M):
            for name in re.split(r"[,|]", line):
                word = name.split()[0]
                if re.fullmatch(pattern, word):
                    return word
        raise NotObtainable(f"{package} in {self.suite} depends on no {pattern}")

    def unpack(self, names: Iterable[str], into: Path) -> None:
        """Download packages and unpack their files into a directory."""
        debs = self.root / "debs"
        for name in names:
            self._run("apt-get", "download", "-q", name, directory=debs)
            for deb in debs.glob(f"{name}_*.deb"):
                subprocess.run(["dpkg-deb", "-x", str(deb), str(into)], check=True)
                deb.unlink()

    def _run(self, tool: str, *arguments: str, directory: Path | None = None) -> str:
        options = {
            "Dir::State": self.root,
            "Dir::State::lists": self.root / "lists",
            "Dir::State::status": self.root / "status",
            "Dir::Cache": self.root,
            "Dir::Etc::sourcelist": self.root / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Check-Valid-Until": "false",  # suites that are no longer re-signed
        }
        settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        try:
            done = subprocess.run(
                [tool, *settings, *arguments],
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=_APT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotObtainable(f"{tool}: {error}") from None
        if done.returncode:
            reason = done.stderr.strip().splitlines() or ["no reason given"]
            raise NotObtainable(f"{tool} {arguments[0]}: {reason[-1]}")
        return done.stdout


def mirror() -> str:
    """The address of Debian's archive that this machine uses. Raises NotObtainable."""
    given = os.environ.get("SYSTEMSCOPE_VM_MIRROR")
    if given:
        return given
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except OSError:
        listed = ""
    for line in listed.splitlines():
        origin, label, address = line.split("|", 2)
        if origin == label == "Debian":
            return address
    raise NotObtainable("no Debian archive is set up: set SYSTEMSCOPE_VM_MIRROR to one")


def _images(tree: Path) -> list[Path]:
    found = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
