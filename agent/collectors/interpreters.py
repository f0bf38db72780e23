"""What an interpreter runs, by the name of its script; never a word of program text or arguments.

Command lines hold secrets (``bash -lc 'PGPASSWORD=...; psql'``), and a process's name leaves the
machine. So each interpreter's options are read by its own grammar, and whatever that grammar does
not know for certain ends the reading: the process is then named by its interpreter alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_INTERPRETER = re.compile(
    r"(python|pypy|ruby|perl|php|nodejs|node|luajit|lua|bash|dash|sh|zsh|busybox|java|deno|bun|tclsh)"
    r"[\d.]*"
)
_PLAIN_PATH = re.compile(r"[\w./~][\w./~+@,-]*")
"""Of a path that can be no program text: no blanks, quotes, controls, assignments, URLs."""
_MAX_NAME = 64
_NO_FILE = ("/dev/", "/proc/")  # text from a pipe or a terminal


@dataclass(frozen=True, slots=True)
class _Grammar:
    """Options of an interpreter before its script; what is in none of them ends the reading.

    Letters are those of clusters (``-lc``) in which a letter with a value takes the rest of the
    cluster, or the next argument. Whole options are compared as they stand.
    """

    flags: str = ""  # letters without a value
    values: str = ""  # letters with a value
    last_values: str = ""  # the last letter of a cluster, with its value in the next argument
    scripts: str = ""  # letters whose value is the script or module
    long_flags: frozenset[str] = frozenset()
    long_values: frozenset[str] = frozenset()  # the value is the next argument
    long_scripts: frozenset[str] = frozenset()  # the value is the script
    attached: tuple[str, ...] = ()  # beginnings of options that have no value but in themselves
    assigned: tuple[str, ...] = ()  # the same of those that have it behind "="


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHELL = _Grammar(
    # No c (program text), no s (it reads its input, so that what follows are arguments).
    flags="abefhiklmnprtuvxBCEHPTDF",
    last_values="oO",
    long_flags=_words("--login --noprofile --norc --posix --restricted --verbose --noediting"),
    long_values=_words("--rcfile --init-file"),
)
_NODE = _Grammar(
    flags="ci",
    last_values="rC",
    long_flags=_words(
        "--check --enable-source-maps --expose-gc --expose_gc --harmony --inspect --inspect-brk"
        " --preserve-symlinks --test --trace-deprecation --trace-uncaught --trace-warnings --watch"
        " --experimental-modules --experimental-strip-types --experimental-vm-modules"
    ),
    long_values=_words("--require --import --loader --experimental-loader --conditions"),
    attached=("--no-",),
    assigned=(
        "--max-",
        "--max_",
        "--stack-",
        "--inspect",
        "--require=",
        "--import=",
        "--loader=",
        "--conditions=",
        "--env-file=",
        "--experimental-",
        "--unhandled-rejections=",
    ),
)
_PYTHON = _Grammar(
    flags="bBdEiIOPqRsSuvx",
    values="WX",
    scripts="m",
    long_values=_words("--check-hash-based-pycs --jit"),
)
_PHP = _Grammar(
    # No r, B, R, E: program text; no F: its script comes after others' text.
    flags="Cehnqs",
    values="cdgStz",
    scripts="f",
    long_flags=_words("--no-php-ini --no-header"),
    long_values=_words("--php-ini --define --server --docroot --zend-extension"),
    long_scripts=_words("--file"),
)
_JAVA = _Grammar(
    long_flags=_words(
        "-server -client -ea -da -enableassertions -disableassertions -esa -dsa -verbose"
        " -showversion --show-version --enable-preview"
    ),
    long_values=_words(
        "-cp -classpath --class-path -p --module-path --add-modules --add-opens --add-exports"
        " --add-reads --limit-modules --upgrade-module-path --patch-module --source"
    ),
    long_scripts=_words("-jar -m --module"),
    attached=("-X", "-D", "-ea:", "-da:", "-verbose:", "-agent", "-javaagent:", "-splash:"),
    assigned=("--add-", "--enable-native-access=", "--class-path=", "--module-path="),
)
_GRAMMARS = {
    "python": _PYTHON,
    "pypy": _PYTHON,
    # No e, E: program text.
    "perl": _Grammar(flags="0123456789acflnpsStTuUwWX", values="IMm"),
    "ruby": _Grammar(
        flags="0123456789acdlnpsSUvwWy",
        values="IrCE",
        long_flags=_words("--jit --yjit --rjit --verbose"),
        long_values=_words("--encoding --external-encoding --internal-encoding"),
        attached=("--enable-", "--disable-"),
        assigned=("--enable=", "--disable=", "--encoding="),
    ),
    "php": _PHP,
    "node": _NODE,
    "nodejs": _NODE,
    "lua": _Grammar(flags="iEW", values="l"),
    "luajit": _Grammar(flags="i0123456789O", values="lj"),
    "bash": _SHELL,
    "dash": _SHELL,
    "sh": _SHELL,
    "zsh": _SHELL,
    "busybox": _Grammar(),  # its first argument is what it is
    "java": _JAVA,
    "deno": _Grammar(),  # its first argument is a subcommand or a script
    "bun": _Grammar(last_values="r", long_flags=_words("--watch --hot --smol --silent --bun")),
    "tclsh": _Grammar(long_values=_words("-encoding")),
}


def is_interpreter(name: str) -> bool:
    """Return whether a program of this name runs others' scripts: ``python3.11``, ``bash``."""
    return _INTERPRETER.fullmatch(name) is not None


def plain_name(path: str) -> str:
    """Return the last part of a path that looks like one; "" if it may be anything else."""
    name = path.rpartition("/")[2]
    if path.startswith(_NO_FILE) or not _PLAIN_PATH.fullmatch(path) or len(name) > _MAX_NAME:
        return ""
    return name


def script_name(interpreter: str, arguments: list[str]) -> str:
    """Return the name of the script, module or archive that an interpreter runs.

    Args:
        interpreter: its name, with or without a version.
        arguments: what follows it on the command line.

    Returns:
        "" if there is none, if it is program text, or if that is not known for certain.
    """
    match = _INTERPRETER.fullmatch(interpreter)
    if match is None:
        return ""
    script = _script(_GRAMMARS[match.group(1)], arguments)
    return "" if script is None else plain_name(script)


def _script(grammar: _Grammar, arguments: list[str]) -> str | None:
    """Return the argument that is the script; None if there is none or it is not certain."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--" or argument in grammar.long_scripts:
            return next(rest, None)
        if argument[:1] not in {"-", "+"}:
            return argument
        if argument in grammar.long_flags or _is_attached(grammar, argument):
            continue
        takes = (1, None) if argument in grammar.long_values else _cluster(grammar, argument[1:])
        if takes is None:
            return None
        values, script = takes
        if script is not None:
            return script or next(rest, None)
        if values and next(rest, "-").startswith("-"):
            return None  # an option that has no value after all, or a strange one
    return None


def _is_attached(grammar: _Grammar, argument: str) -> bool:
    """Return whether the argument is an option that has its value, if any, in itself."""
    return argument.startswith(grammar.attached) or (
        "=" in argument and argument.startswith(grammar.assigned)
    )


def _cluster(grammar: _Grammar, letters: str) -> tuple[int, str | None] | None:
    """Read ``lc`` of ``-lc``.

    Returns:
        Whether the next argument is a value (0 or 1); the script if it was named here, "" if it is
        the next argument. None if there is a letter that is program text or not known.
    """
    for at, letter in enumerate(letters):
        attached = letters[at + 1 :]
        if letter in grammar.values:
            return (0 if attached else 1), None
        if letter in grammar.scripts:
            return 0, attached
        if letter in grammar.last_values:
            # Some shells read what is attached as the value, others as more letters.
            return None if attached else (1, None)
        if letter not in grammar.flags:
            return None
    return (0, None) if letters else None
