"""One page to explore a profile in: a single HTML file that needs no network and no other file.

Flame graph, functions, threads, waits and summary, with filters. Script, style and frame of the
page are the files in ``web/``, put together here. The profile is JSON in a data block, which is
never run; the page's own policy allows the one script and the one style it carries, by their
hashes, and nothing else (https://www.w3.org/TR/CSP3/).
"""

from __future__ import annotations

import base64
import hashlib
import pkgutil
from typing import TextIO

from systemscope.errors import SystemScopeError
from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.html_data import Document
from systemscope.model import Profile

#: In the order in which they run: later ones use what earlier ones declare.
SCRIPTS = (
    "text.js",
    "data.js",
    "exact.js",
    "keys.js",
    "tree.js",
    "functions.js",
    "colors.js",
    "store.js",
    "dom.js",
    "filters.js",
    "flame.js",
    "graph.js",
    "details.js",
    "tables.js",
    "views.js",
    "summary.js",
    "toolbar.js",
    "keyboard.js",
    "main.js",
)
STYLES = ("base.css", "page.css", "parts.css")
_DATA = "{{data}}"


def write(profile: Profile, stream: TextIO, options: ExportOptions = ExportOptions()) -> None:
    """Write ``profile`` to the text stream ``stream``. Raises whatever the stream raises.

    Raises OutputError for a time beyond 2^53 milliseconds, which a browser cannot show exactly.
    """
    document = Document(options)
    document.add(profile)
    _write_page(document, stream)


def write_difference(
    before: Profile, after: Profile, stream: TextIO, options: ExportOptions = ExportOptions()
) -> None:
    """Write how ``after`` differs from ``before``; ``options.normalize`` is where it starts, the
    page can switch. Raises as :func:`write` does."""
    document = Document(options, difference=True)
    document.add(before)
    document.add(after)
    _write_page(document, stream)


def page() -> tuple[str, str]:
    """What stands before and after the data in every page."""
    script = '(() => {\n"use strict";\n' + "\n".join(map(_web, SCRIPTS)) + "})();\n"
    style = "\n".join(map(_web, STYLES))
    # Without base-uri and form-action the markup of a page could still send things elsewhere.
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    whole = _web("page.html")
    for place, text in (("policy", policy), ("style", style), ("script", script)):
        whole = whole.replace("{{" + place + "}}", text)
    before, _, after = whole.partition(_DATA)
    return before, after


def _write_page(document: Document, stream: TextIO) -> None:
    before, after = page()
    stream.write(before)
    document.write(stream)
    stream.write(after)


def _web(name: str) -> str:
    """A file of ``web/``, wherever the package lies, in a zip too."""
    content = pkgutil.get_data("systemscope.exporters", f"web/{name}")
    if content is None:
        raise SystemScopeError(
            f"the file exporters/web/{name} is missing", "install the whole package"
        )
    return content.decode("utf-8")


def _hash(text: str) -> str:
    """A source expression of a content security policy that allows exactly ``text``."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
