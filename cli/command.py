"""Click classes of verbs and options: help by section, renamed options, option groups, -q and -v."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
ARGUMENTS = "von.arguments"
QUIET = "von.quiet"
# Precedence of value sources: a value from a stronger source voids its whole option group from weaker ones.
_STRENGTH = {
    ParameterSource.DEFAULT: 0,
    ParameterSource.DEFAULT_MAP: 1,
    ParameterSource.ENVIRONMENT: 2,
    ParameterSource.COMMANDLINE: 3,
    ParameterSource.PROMPT: 3,
}


class Option(click.Option):
    """An option of a verb.

    Args:
        declarations: flags and parameter name, as for `click.Option`.
        heading: section of the help.
        old: earlier names, which still work with a warning.
        group: options that are overridden together: one on the command line voids the group's values from variables
            and von.toml, and a variable voids those of von.toml.
        settings: as for `click.Option`.
    """

    def __init__(
        self,
        declarations: Sequence[str] | None = None,
        *,
        heading: str = "Options",
        old: Sequence[str] = (),
        group: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(declarations, **settings)
        if isinstance(self.type, click.IntRange | click.FloatRange):  # click says "is not a valid integer range"
            self.type.name = "integer" if isinstance(self.type, click.IntRange) else "number"
        self.heading, self.old, self.group = heading, tuple(old), group

    def make_metavar(self, ctx: click.Context) -> str:
        """The placeholder of the value in the help."""
        if self.metavar is None and isinstance(self.type, click.IntRange | click.FloatRange):
            return "N" if isinstance(self.type, click.IntRange) else "NUMBER"
        return super().make_metavar(ctx)

    @property
    def nothing(self) -> Any:
        """The value of an option that was not given."""
        return () if self.multiple else False if self.is_flag and not self.secondary_opts else None


def option(*declarations: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """`click.option` with the class `Option`."""
    return click.option(*declarations, cls=Option, **settings)


class Command(click.Command):
    """A verb, with -q and -v. An option that takes one value and is given twice is an error."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += [
            Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_quiet, heading="Output",
                   help="Print errors and results only."),
            Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_set_verbose, heading="Output",
                   help="Print the messages of the libraries too."),
        ]  # fmt: skip

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; the original ones are kept in the context's `meta`."""
        ctx.meta[ARGUMENTS] = list(args)
        if not ctx.resilient_parsing:
            args = self._renamed(args)
            self._check_given(ctx, args)
        rest = super().parse_args(ctx, args)
        self._settle_groups(ctx)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options under their headings, in the order of the headings' first options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if record is not None:
                heading = parameter.heading if isinstance(parameter, Option) else "Output"
                sections.setdefault(heading, []).append(record)
        last = sections.pop("Output", None)
        for heading, records in [*sections.items(), *([("Output", last)] if last else [])]:
            with formatter.section(heading):
                formatter.write_dl(records)

    def _renamed(self, args: Sequence[str]) -> list[str]:
        """The arguments under their current names, with a warning for each earlier name."""
        today = {old: max(each.opts, key=len) for each in own_options(self) for old in each.old}
        renamed: list[str] = []
        warned: set[str] = set()
        for position, argument in enumerate(args):
            if argument == "--":
                return [*renamed, *args[position:]]
            flag, equals, value = argument.partition("=")
            if flag not in today:
                renamed.append(argument)
                continue
            if flag not in warned:
                warn_renamed(flag, today[flag])
                warned.add(flag)
            renamed.append(f"{today[flag]}{equals}{value}")
        return renamed

    def _check_given(self, ctx: click.Context, args: Sequence[str]) -> None:
        """Refuses options given twice, and arguments of a verb that takes options only."""
        _, rest, given = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(given).items():
            if times > 1 and isinstance(parameter, click.Option) and not (parameter.multiple or parameter.count):
                raise click.UsageError(f"{max(parameter.opts, key=len)} is given {times} times; give it once", ctx)
        wants_help = any(parameter.is_eager for parameter in given)
        if rest and not wants_help and not any(isinstance(each, click.Argument) for each in self.params):
            raise click.UsageError(f"{rest[0]!r} belongs to no option{self._suggestion(ctx, rest[0])}", ctx)

    def _suggestion(self, ctx: click.Context, argument: str) -> str:
        """The option that an argument was probably meant for: a required one, or the first that takes a path."""
        paths = [each for each in own_options(self) if each.type.name == "path" and each.name != "output"]
        meant = [each for each in paths if each.required] + paths
        if not meant:
            return "; this command takes options only"
        flag = f"--{meant[0].name}"
        return f": did you mean {flag if flag in meant[0].opts else max(meant[0].opts, key=len)} {argument}?"

    def _settle_groups(self, ctx: click.Context) -> None:
        groups: dict[str, list[Option]] = {}
        for each in own_options(self):
            if each.group is not None:
                groups.setdefault(each.group, []).append(each)
        for members in groups.values():
            strength = {each: _strength(ctx, each) for each in members}
            for each in members:
                if strength[each] < max(strength.values()) and each.name in ctx.params:
                    ctx.params[each.name] = each.nothing
                    ctx.set_parameter_source(each.name, ParameterSource.DEFAULT)


class Verbs(MutableMapping[str, click.Command]):
    """A mapping from names to verbs, each imported on first access.

    Args:
        names: names of the verbs.
        load: imports the verb of a name.
    """

    def __init__(self, names: Iterable[str], load: Callable[[str], click.Command]) -> None:
        self._loaded: dict[str, click.Command | None] = dict.fromkeys(names)
        self._load = load

    def __getitem__(self, name: str) -> click.Command:
        verb = self._loaded[name]
        if verb is None:
            verb = self._loaded[name] = self._load(name)
        return verb

    def __setitem__(self, name: str, verb: click.Command) -> None:
        self._loaded[name] = verb

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)


class Group(click.Group):
    """A group of verbs, listed in its help by heading.

    Args:
        verbs: help lines of the verbs, by heading; without them, the help is one list of the added commands.
        load: imports the verb of a name on first access.
    """

    command_class = Command

    def __init__(
        self,
        *arguments: Any,
        verbs: Mapping[str, Mapping[str, str]] | None = None,
        load: Callable[[str], click.Command] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self.headings = verbs or {}
        if load is not None:
            self.commands = Verbs([name for each in self.headings.values() for name in each], load)

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Runs the command line, without a traceback where its output cannot be encoded or written."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # a console of another encoding shows \\xNN, \\uNNNN
        try:
            return super().main(*arguments, **settings)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            with contextlib.suppress(OSError):  # standard error may be full as well
                click.echo(f"Error: the output cannot be written ({error.strerror}).", err=True)
            sys.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs under their headings."""
        for heading, verbs in (self.headings or {"Commands": self._short_helps(formatter.width)}).items():
            with formatter.section(heading):
                formatter.write_dl(list(verbs.items()))

    def _short_helps(self, width: int) -> dict[str, str]:
        left = width - 6 - max(map(len, self.commands))
        return {name: each.get_short_help_str(left) for name, each in sorted(self.commands.items())}


def own_options(command: click.Command) -> list[Option]:
    """The `Option`s of a verb."""
    return [each for each in command.params if isinstance(each, Option)]


def warn_renamed(old: str, new: str) -> None:
    """Warns that an option has been renamed."""
    click.echo(f"Warning: {old} is now called {new}; the old name will be removed.", err=True)


def is_quiet() -> bool:
    """Whether the running verb was given -q: print errors and results only."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def _strength(ctx: click.Context, each: Option) -> int:
    source = ctx.get_parameter_source(each.name or "")
    return _STRENGTH[source or ParameterSource.DEFAULT]


def _set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


def _set_verbose(_: click.Context, __: click.Parameter, value: bool) -> None:
    for name in ("vondata", "vonmodel") if value else ():
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
            logger.addHandler(handler)
