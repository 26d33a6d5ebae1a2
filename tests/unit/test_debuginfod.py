"""Debug files from servers: asked by build ID, bounded, verified, kept; failures are one note."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from systemscope.cli.naming import debug_servers
from systemscope.elf import ElfImage
from systemscope.elf.file_cache import FileCache
from systemscope.errors import UsageError
from systemscope.model import FileId, HostFacts, Mapping
from systemscope.symbolizer.debugfiles import DebugFiles
from systemscope.symbolizer.debuginfod import URLS_VARIABLE, DebugServers, configured_urls
from tests.unit.elf_maker import TEXT, Maker, Sym

BUILD_ID = "abcdef0123"
DEBUG = Maker([Sym("hidden", TEXT, 64)], build_id=bytes.fromhex(BUILD_ID)).build()


class Server:
    """Serves ``files`` by path; ``behave`` replaces the whole answer."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {f"/buildid/{BUILD_ID}/debuginfo": DEBUG}
        self.asked: list[str] = []
        self.behave = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.behave == "hang":
            time.sleep(1.5)
            return
        if self.behave.startswith("redirect "):
            handler.send_response(302)
            handler.send_header("Location", self.behave.split(" ", 1)[1])
            handler.end_headers()
            return
        data = self.files.get(handler.path)
        if self.behave == "error":
            handler.send_response(503)
        else:
            handler.send_response(404 if data is None else 200)
        handler.end_headers()
        if data is not None:
            try:
                handler.wfile.write(data)
                while self.behave == "endless":
                    handler.wfile.write(bytes(1 << 16))
                while self.behave == "drip":
                    handler.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:
                return

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    yield made
    made.close()


def fetched(servers: DebugServers, build_id: str = BUILD_ID) -> str:
    """The build ID of what came, "" if nothing did."""
    descriptor = servers.open(build_id)
    if descriptor is None:
        return ""
    try:
        return ElfImage.from_descriptor(descriptor).build_id
    finally:
        os.close(descriptor)


def test_fetched_once_and_kept(server: Server, tmp_path: Path) -> None:
    servers = DebugServers([server.url], str(tmp_path / "kept"))
    assert fetched(servers) == BUILD_ID and servers.fetched == 1
    assert fetched(servers) == BUILD_ID and servers.fetched == 1
    again = DebugServers([server.url], str(tmp_path / "kept"))
    assert fetched(again) == BUILD_ID and again.fetched == 0
    assert server.asked == [f"/buildid/{BUILD_ID}/debuginfo"]
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.name == f"{BUILD_ID}.debug" and kept.stat().st_mode & 0o777 == 0o600
    assert again.notes() == []
    # What was spoilt on disk is fetched anew.
    kept.write_bytes(Maker([], build_id=b"\x01\x02").build())
    assert fetched(DebugServers([server.url], str(tmp_path / "kept"))) == BUILD_ID
    assert len(server.asked) == 2


def test_without_a_directory_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    servers = DebugServers([server.url])
    assert fetched(servers) == BUILD_ID
    assert fetched(servers) == BUILD_ID and servers.fetched == 2


def test_absent_files_are_no_failure(server: Server, tmp_path: Path) -> None:
    servers = DebugServers([server.url], str(tmp_path))
    assert fetched(servers, "00ff") == fetched(servers, "00ff") == ""
    assert servers.notes() == [] and len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []
    for odd in ("", "../../x", "ab/cd", "ab cd", "äb"):
        assert fetched(servers, odd) == ""
    assert len(server.asked) == 1


def test_another_build_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["/buildid/0011/debuginfo"] = DEBUG
    server.files["/buildid/0022/debuginfo"] = b"no ELF file"
    servers = DebugServers([server.url], str(tmp_path))
    assert fetched(servers, "0011") == fetched(servers, "0022") == ""
    assert servers.notes() == ["debuginfod: 127.0.0.1: sent a file of another build"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "behave", ["endless", "drip", "hang", "error", "redirect file:///etc/passwd"]
)
def test_servers_that_misbehave(server: Server, tmp_path: Path, behave: str) -> None:
    server.behave = behave
    servers = DebugServers(
        [server.url], str(tmp_path), max_bytes=1 << 20, seconds=0.4, file_seconds=0.5
    )
    began = time.monotonic()
    assert fetched(servers) == fetched(servers, "0011") == fetched(servers, "0022") == ""
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []
    if behave not in ("drip", "endless"):  # these answer 404 for the other two
        assert len(servers.notes()) == 1 and len(server.asked) == 2  # not asked a third time


def test_redirections_within_http(server: Server, tmp_path: Path) -> None:
    other = Server()
    try:
        server.behave = f"redirect {other.url}buildid/{BUILD_ID}/debuginfo"
        assert fetched(DebugServers([server.url], str(tmp_path))) == BUILD_ID
    finally:
        other.close()


def test_the_next_server_is_asked(server: Server, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://user:secret@127.0.0.1:{nobody.getsockname()[1]}"
        servers = DebugServers([dead, server.url], str(tmp_path))
        assert fetched(servers) == BUILD_ID
        (note,) = servers.notes()
        assert note.startswith("debuginfod: 127.0.0.1: ") and "secret" not in note


def test_a_cache_that_others_can_write_is_not_used(server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    servers = DebugServers([server.url], str(tmp_path))
    assert fetched(servers) == BUILD_ID  # all the same, but not from there
    assert list(tmp_path.iterdir()) == []
    assert "can be written by, others" in servers.notes()[0]


def test_the_cache_removes_what_was_unused_for_longest(tmp_path: Path) -> None:
    cache = FileCache(str(tmp_path), 100)
    for number in range(5):
        made = cache.create()
        assert made is not None
        os.write(made[0], bytes(60))
        os.close(made[0])
        cache.keep(made[1], f"{number}.debug")
        os.utime(tmp_path / f"{number}.debug", (number, number))
    assert {path.name for path in tmp_path.iterdir()} == {"3.debug", "4.debug"}
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert cache.open("fifo") is None and cache.open("link") is None


def test_servers_come_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URLS_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="names none"):
        debug_servers()
    monkeypatch.setenv(
        URLS_VARIABLE, "https://a.example/ file:///etc http://b.example ima:permissive"
    )
    assert configured_urls() == debug_servers() == ("https://a.example/", "http://b.example")


def test_a_file_that_is_nowhere_here(server: Server, tmp_path: Path) -> None:
    """A capture's program that this host lacks altogether: its debug file tells the functions."""
    files = DebugFiles(FACTS, (), DebugServers([server.url], str(tmp_path)))
    descriptor = files.open(7, AWAY)
    assert descriptor is not None and files.notes() == []
    os.close(descriptor)
    server.behave = "error"
    files = DebugFiles(FACTS, (), DebugServers([server.url]))
    assert files.open(7, AWAY) is None
    assert [note.split(":")[0] for note in files.notes()] == ["no file for /away/app", "debuginfod"]


AWAY = Mapping(0x7F0000000000, 0x7F0000009000, 0, "/away/app", FileId(8, 1, 5))
FACTS = HostFacts(build_ids={("/away/app", (8, 1, 5, 0)): BUILD_ID})
