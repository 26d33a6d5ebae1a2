"""docopt with readable refusals: options are checked one by one before docopt sees them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from systemscope.cli.report import print_out
from systemscope.errors import SystemScopeError, UsageError

_ARGUMENT = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Parsed:
    """``options`` as docopt gives them; ``rest`` is what followed ``--`` (None: there was none)."""

    options: dict[str, Any]
    rest: Optional[tuple[str, ...]]


class HelpShown(Exception):
    """--help was asked for and has been printed; ``code`` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__("help was shown")
        self.code = code


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of ``known`` that ``word`` was probably meant to be, or ''."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def parse(
    usage: str, command: str, arguments: Sequence[str], repeatable: Sequence[str] = ()
) -> Parsed:
    """Parse ``arguments`` by the docopt text ``usage`` of ``systemscope COMMAND``.

    Options may be given once, but for those named in ``repeatable``.

    Raises UsageError with the nearest option for an unknown one, HelpShown for -h and --help.
    """
    docopt = _docopt()
    words = list(arguments)
    rest: Optional[tuple[str, ...]] = None
    if "--" in words:
        cut = words.index("--")
        words, rest = words[:cut], tuple(words[cut + 1 :])
    sections = docopt.parse_docstring_sections(usage)
    known = docopt.parse_options(sections.after_usage)
    once = [option.name for option in known if option.name not in repeatable]
    names = tuple(dict.fromkeys(_ARGUMENT.findall(sections.usage_body)))
    given = _check(words, known, command, bool(names), once)
    if any(word in ("-h", "--help") for word in words):
        raise HelpShown(print_out(usage.strip("\n")))
    try:
        parsed = docopt.docopt(usage, argv=[command, *words], default_help=False)
    except docopt.DocoptExit as error:
        raise UsageError(_misfit(given, names), _see(command)) from error
    return Parsed(dict(parsed), rest)


def _misfit(given: Sequence[str], names: Sequence[str]) -> str:
    """What is wrong with the arguments ``given`` where the usage has ``names``."""
    if len(given) > len(names):
        return f"'{given[len(names)]}' is one argument too many"
    if len(given) < len(names):
        missing = " and ".join(name.strip("<>").upper() for name in names[len(given) :])
        return f"{missing} {'is' if len(names) - len(given) == 1 else 'are'} missing"
    return "the arguments do not fit"


def _docopt() -> Any:
    try:
        import docopt
    except ImportError as error:
        raise SystemScopeError(
            "the Python package docopt-ng is not installed",
            "run make install, or pip install docopt-ng",
        ) from error
    return docopt


def _see(command: str) -> str:
    return f"see systemscope {command} --help"


def _check(
    words: list[str],
    known: Sequence[Any],
    command: str,
    takes_arguments: bool,
    once: Sequence[str],
) -> list[str]:
    """The words that are neither options nor their values; raises UsageError for the first word
    that nothing explains."""
    by_name = {name: one for one in known for name in (one.short, one.longer) if name}
    seen: set[str] = set()
    arguments: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or word == "-":
            if not takes_arguments:
                raise UsageError(
                    f"'{word}' is neither an option nor an option's value",
                    f"to profile a command put it after --, as in: "
                    f"systemscope {command} -- {word}; {_see(command)}",
                )
            arguments.append(word)
            continue
        for option, value in _options_of(word, by_name, command):
            if option.name in seen and option.name in once:
                raise UsageError(
                    f"{option.name} is given twice", "give it once, several values separated by ,"
                )
            seen.add(option.name)
            if option.argcount and value is None:
                if position >= len(words):
                    raise UsageError(f"{option.name} needs a value", _see(command))
                position += 1
    return arguments


def _options_of(
    word: str, by_name: dict[str, Any], command: str
) -> list[tuple[Any, Optional[str]]]:
    """The options in one word (-qv is two) with the value each carries in the same word."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        option = by_name.get(name) or _by_prefix(name, by_name)
        if option is None:
            raise _unknown(name, by_name, command)
        if equals and not option.argcount:
            raise UsageError(f"{option.name} takes no value", _see(command))
        return [(option, value if equals else None)]
    found: list[tuple[Any, Optional[str]]] = []
    letters = word[1:]
    while letters:
        short, letters = "-" + letters[0], letters[1:]
        option = by_name.get(short)
        if option is None:
            raise _unknown(short if not found else f"{short} (in {word})", by_name, command)
        if option.argcount:
            found.append((option, letters or None))
            break
        found.append((option, None))
    return found


def _by_prefix(name: str, by_name: dict[str, Any]) -> Any:
    """The one option that ``name`` abbreviates, as docopt allows it, else None."""
    matching = [option for known, option in by_name.items() if known.startswith(name)]
    return matching[0] if len(matching) == 1 and len(name) > 2 else None


def _unknown(name: str, by_name: dict[str, Any], command: str) -> UsageError:
    guess = nearest(name, by_name) if name.startswith("--") else ""
    hint = f"did you mean {guess}? " if guess else ""
    return UsageError(f"there is no option {name}", hint + _see(command))
