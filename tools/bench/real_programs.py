"""Programs nobody here wrote, under load: how each is started and who its processes are."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from tools.bench.tools import find

SOURCES = Path(__file__).resolve().parent / "real"
_RUST = Path("/root/.cargo/bin")
_GIT = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")
_WARM_SECONDS = 0.7


@dataclass(frozen=True)
class RealProgram:
    """``prepare(scratch)`` makes what it needs and returns the command lines that put it under
    load; they run until they are killed. ``needs`` must be installed. ``user`` runs it if not
    root may. With ``children`` those that it has when a window opens are to be profiled too, else
    only those that it starts later."""

    name: str
    needs: tuple[str, ...]
    prepare: Callable[[Path], list[list[str]]]
    user: str = ""
    children: bool = False

    @property
    def installed(self) -> bool:
        """Whether it can be run here."""
        return all(map(program, self.needs)) and (not self.user or _known(self.user))


def program(name: str) -> Optional[str]:
    """The path of a program; Rust's lie where rustup puts them."""
    rust = _RUST / name
    return find(name) or (str(rust) if rust.exists() else None)


def _known(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


@contextmanager
def running(real: RealProgram, scratch: Path) -> Iterator[list[int]]:
    """The program under load; gives the ids of what was started.

    Raises CalledProcessError or OSError when it cannot be started.
    """
    home = scratch / real.name.replace(" ", "-")
    home.mkdir()
    if real.user:
        os.chmod(scratch, 0o755)
        shutil.chown(home, real.user)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for argv in real.prepare(home):
            started.append(_start(argv, home, real.user))
            time.sleep(_WARM_SECONDS)
        yield [process.pid for process in started]
    finally:
        for process in reversed(started):
            _kill(process)


def _start(argv: Sequence[str], home: Path, user: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        user=user or None,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole session: a server's children too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def targets(real: RealProgram, pids: Sequence[int]) -> list[int]:
    """Whom to profile of what was started."""
    return _tree(pids) if real.children else list(pids)


def _tree(pids: Sequence[int]) -> list[int]:
    """``pids`` and their descendants, as far as they live."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        try:
            stat = Path(entry.path, "stat").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if stat:
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: list[int] = []
    left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    while left:
        found.append(left.pop())
        left += parents.get(found[-1], [])
    return sorted(found)


def _run(*command: object, home: Path, user: str = "", text: str = "", **more: str) -> None:
    subprocess.run(
        [str(word) for word in command],
        cwd=home,
        env={**os.environ, **more},
        input=text.encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user or None,
        check=True,
    )


def _forever(command: str) -> list[list[str]]:
    return [["sh", "-c", f"while :; do {command}; done"]]


def _script(interpreter: str, source: str) -> Callable[[Path], list[list[str]]]:
    return lambda _home: [[program(interpreter) or interpreter, str(SOURCES / source)]]


def _sqlite(home: Path) -> list[list[str]]:
    (home / "all.sql").write_text(f".read {SOURCES / 'load.sql'}\n" * 10000)
    return [["sqlite3", "numbers.db", ".read all.sql"]]


def _git(home: Path) -> list[list[str]]:
    """A repository of 200 commits, made by git fast-import."""
    _run("git", "init", "-q", home, home=home)
    lines = []
    for i in range(200):
        content = "".join(f"line {i * n * 7919 % 1009}\n" for n in range(200))
        lines += [
            f"commit refs/heads/main\ncommitter b <b@localhost> {1700000000 + i} +0000",
            f"data {len(f'commit {i}')}\ncommit {i}",
            f"M 100644 inline file{i % 17}.txt\ndata {len(content)}\n{content}",
        ]
    _run("git", "fast-import", "--quiet", home=home, text="\n".join(lines) + "\n")
    git = " ".join(["git", *_GIT])
    return _forever(f"{git} log -p --stat main >/dev/null; {git} repack -adfq")


def _gcc(home: Path) -> list[list[str]]:
    functions = [
        f"int f{i}(int *p, int n) {{ int s = {i}; for (int i = 0; i < n; i++) "
        f"s += p[i] * {i} ^ (s >> 3); switch (s & 7) {{ case 1: return s * 3; case 2: return p[s]; "
        f"default: return s ? f{max(i - 1, 0)}(p, n - 1) : {i}; }} }}"
        for i in range(120)
    ]
    (home / "big.c").write_text("\n".join(functions) + "\n")
    return _forever("gcc -O2 -c -o big.o big.c")


def _openssl(_home: Path) -> list[list[str]]:
    return _forever("openssl speed -seconds 1 sha256 rsa2048 ecdsap256 aes-256-cbc")


def _redis(home: Path) -> list[list[str]]:
    socket = home / "socket"
    server = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""]
    benchmark = f"redis-benchmark -s {socket} -q -l -c 20 -n 100000 -t set,get,lpush,lrange_100"
    return [server, benchmark.split()]


def _postgres(home: Path) -> list[list[str]]:
    data, user = home / "data", "postgres"
    _run("initdb", "-D", data, "-A", "trust", "-N", home=home, user=user)
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
    ready = f"until pgbench -q -i -s 2 -h {home} postgres; do sleep 0.2; done"
    server = ["postgres", "-D", str(data), *options.split()]
    load = f"{ready}; exec pgbench -h {home} -c 4 -T 3600 postgres"
    return [server, ["sh", "-c", load]]


def _go(home: Path) -> list[list[str]]:
    off = {"GO111MODULE": "off", "GOPROXY": "off", "GOCACHE": str(home / "cache")}
    _run("go", "build", "-trimpath", "-o", "load", SOURCES / "load.go", home=home, **off)
    return [[str(home / "load")]]


def _rust(home: Path) -> list[list[str]]:
    _run(program("rustc"), "-O", "-o", "load", SOURCES / "load.rs", home=home)
    return [[str(home / "load")]]


PROGRAMS = (
    RealProgram("CPython", (sys.executable,), _script(sys.executable, "load.py")),
    RealProgram("node", ("node",), _script("node", "load.js")),
    RealProgram("perl", ("perl",), _script("perl", "load.pl")),
    RealProgram("openssl speed", ("openssl",), _openssl, children=True),
    RealProgram("sqlite3", ("sqlite3",), _sqlite),
    RealProgram("git", ("git",), _git),
    RealProgram("gcc", ("gcc",), _gcc),
    RealProgram("redis", ("redis-server", "redis-benchmark"), _redis),
    RealProgram("PostgreSQL", ("postgres", "initdb", "pgbench"), _postgres, "postgres", True),
    RealProgram("Go", ("go",), _go),
    RealProgram("Rust", ("rustc",), _rust),
)
