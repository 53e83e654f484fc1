"""Number formats as frozen values: what a code means, how to encode and decode."""

from rung.formats._encoded import Encoded
from rung.formats._format import Format
from rung.formats._source import CounterSource
from rung.formats.catalog import get, name_of, names
from rung.formats.fixed_point import FixedPoint
from rung.formats.ladder import Ladder
from rung.formats.lns import LNS
from rung.formats.minifloat import Minifloat
from rung.formats.mx import MX
from rung.formats.packing import Packed
from rung.formats.pair import Pair
from rung.formats.sinh import Sinh

__all__ = [
    "LNS",
    "MX",
    "CounterSource",
    "Encoded",
    "FixedPoint",
    "Format",
    "Ladder",
    "Minifloat",
    "Packed",
    "Pair",
    "Sinh",
    "get",
    "name_of",
    "names",
]
