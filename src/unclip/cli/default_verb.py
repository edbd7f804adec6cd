"""A group of verbs of which one need not be named: `evaluate BUNDLE` is `evaluate bundle BUNDLE`."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup


class DefaultVerb(TyperGroup):
    """Takes the verb `default` where the first argument is neither a verb of the group nor asks for help."""

    default: ClassVar[str]

    @classmethod
    def of(cls, verb: str) -> type[DefaultVerb]:
        """A class of groups with this verb as the default."""
        return type("Group", (cls,), {"default": verb})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in the base class, with the verb put in front."""
        if args and args[0] not in self.commands and args[0] not in self.get_help_option_names(ctx):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
