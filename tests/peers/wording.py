# SPDX-License-Identifier: MIT
# How a call of a peer is worded in Lua: dimensions, places and classes count from 1 there.
import exchange
from exchange import Skip


class T:
    """A tensor of a sample: how Lua names it, and what the peer knows of it."""

    def __init__(self, place, value):
        self.place, self.value = place, value

    def __repr__(self):
        return "t[%d]" % self.place

    @property
    def ndim(self):
        return self.value.ndim


class Call(str):
    """The text of a call; the peer's outputs are changed to what they are here, its first tensor before."""

    before, change, peer = None, None, None

    def by(self, peer):
        """Not the operator of the sample, but this function."""
        self.peer = peer
        return self

    def of(self, before):
        self.before = before
        return self

    def then(self, change):
        self.change = change
        return self


def raw(text):
    v = T(0, None)
    v.__class__ = type("Raw", (T,), {"__repr__": lambda self: text})
    return v


def call(name, *args, **options):
    """nb.NAME(args, {options}); what is None is left out."""
    args = list(args)
    while args and args[-1] is None:
        args.pop()
    options = {key: v for key, v in options.items() if v is not None}
    return Call(
        "%s(%s)"
        % (
            name if "." in name else "nb." + name,
            ", ".join([exchange.lua(a) for a in args] + ([exchange.lua(options)] if options else [])),
        )
    )


def from_one(d):
    """A dimension, or several."""
    if d is None:
        return None
    if isinstance(d, (list, tuple)):
        return [from_one(x) for x in d] or None
    return d + 1 if d >= 0 else d


def places(index):
    return raw("(%s + 1)" % index) if isinstance(index, T) else index + 1


def needs(condition, rule):
    if not condition:
        raise Skip(rule)
