"""Number formats as frozen values: what a code means, how to encode and decode."""

from rung.formats._encoded import Encoded
from rung.formats._format import Format
from rung.formats._source import CounterSource
from rung.formats.catalog import get, name_of, names
from rung.formats.ladder import Ladder
from rung.formats.lns import LNS

__all__ = [
    "LNS",
    "CounterSource",
    "Encoded",
    "Format",
    "Ladder",
    "get",
    "name_of",
    "names",
]
