"""The energy of counted passes in a format: a model, not a measurement."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from rung.formats import Format
from rung.hardware.energy import scaling
from rung.hardware.energy.cost_table import CostTable, load_costs
from rung.hardware.energy.counts import PHASES, Counts, Work
from rung.hardware.energy.design import Design
from rung.hardware.energy.estimate import Band, Rows, energy_band, saving_band, sum_rows
from rung.hardware.energy.units import DATAPATH, MULTIPLY, Parts, Unit, unit_of
from rung.hardware.energy.updates import Update, update_of

BUFFER, DRAM = "buffer", "dram"
PARTS = (*DATAPATH, BUFFER, DRAM)
"""Where energy goes: the datapath's parts, memory on the chip, memory beside it."""
UPDATE = "update"
PASSES = (*PHASES, UPDATE)
"""When it goes there: the passes over the model, and the optimizer's."""

DISCLAIMER = "A model, not a measurement: operations counted, energies from a table of costs."
"""What every output of the model says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Energy of one layer in one pass and part.

    Attributes:
        phase: ``"forward"``, ``"input gradient"``, ``"weight gradient"`` or ``"update"``.
        layer: Path of the module; ``"(optimizer)"`` of the update.
        group: The layer with ``*`` for numbers.
        part: One of `PARTS`.
        rows: Picojoules by row of the cost table.
    """

    phase: str
    layer: str
    group: str
    part: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of counted passes in one format. It is a model, not a measurement.

    Attributes:
        format: Name.
        entries: By pass, layer and part.
        costs: The table behind them, which also gives the bands.
        update: Name of the optimizer's rule, or None where nothing is updated.
    """

    format: str
    entries: tuple[Entry, ...]
    costs: CostTable
    update: str | None

    @property
    def total(self) -> Band:
        """Picojoules in all."""
        return energy_band(self._rows(), self.costs)

    @property
    def datapath(self) -> "Energy":
        """Multiply, conversion and accumulation of the three passes, without the update's."""
        return self.only(DATAPATH, PHASES)

    def only(self, parts: Iterable[str] = PARTS, phases: Iterable[str] = PASSES) -> "Energy":
        """Some parts of some passes, to sum or to compare.

        Raises:
            ValueError: No such part or pass.
        """
        chosen = tuple(parts), tuple(phases)
        for name, found, known in zip(("parts", "phases"), chosen, (PARTS, PASSES), strict=True):
            unknown = [key for key in found if key not in known]
            if unknown:
                raise ValueError(f"`{name}` are of {', '.join(known)}; got {unknown[0]!r}.")
        kept = (e for e in self.entries if e.part in chosen[0] and e.phase in chosen[1])
        return replace(self, entries=tuple(kept))

    def by(self, field: str) -> dict[str, Band]:
        """Picojoules by ``"phase"``, ``"layer"``, ``"group"`` or ``"part"``.

        Raises:
            ValueError: Another field.
        """
        fields = ("phase", "layer", "group", "part")
        if field not in fields:
            raise ValueError(f"`field` must be one of {', '.join(fields)}; got {field!r}.")
        parts: dict[str, list[Rows]] = {}
        for entry in self.entries:
            parts.setdefault(getattr(entry, field), []).append(entry.rows)
        return {key: energy_band(sum_rows(rows), self.costs) for key, rows in parts.items()}

    def by_row(self) -> dict[str, float]:
        """Picojoules by row of the cost table, at its middle values; the largest first."""
        return dict(sorted(self._rows().items(), key=lambda item: -item[1]))

    def saving(self, reference: "Energy") -> Band:
        """The share that is saved against another format: 1 - this / reference.

        Args:
            reference: Energy of the same counts, by the same cost table. For the datapaths:
                ``ours.datapath.saving(theirs.datapath)``.

        Raises:
            ValueError: Another cost table, or a reference of 0.
        """
        if self.costs != reference.costs:
            raise ValueError(
                "Both energies must come from one cost table; got "
                f"{self.costs.name!r} and {reference.costs.name!r}. Use `compare`."
            )
        return saving_band(self._rows(), reference._rows(), self.costs)

    def __str__(self) -> str:
        value, low, high = self.total
        return f"{self.format}: {value:.4g} pJ, {low:.4g} to {high:.4g}. {DISCLAIMER}"

    def _rows(self) -> dict[str, float]:
        return sum_rows(entry.rows for entry in self.entries)


def energy(
    counts: Counts,
    fmt: str | Format,
    costs: CostTable | None = None,
    *,
    design: Design | None = None,
    update: str | None = None,
) -> Energy:
    """Energy of counted passes with all operands and results in one format.

        datapath  multiply-accumulates, blocks and results times what `unit_of` says
        buffer    2 operands of a multiply-accumulate / reuse, read from memory on the chip
        dram      every operand read once and every result written once, for each product
        update    the weight in its own width and the state read and written, the gradient read, the
                  format's copy of the weight written, and the rule's arithmetic (part "multiply")

    Element-wise operators, control, wires between units and static power are not in it.

    Args:
        counts: From `count`.
        fmt: As for `unit_of`.
        costs: Picojoules of operations; default: the table that comes with Rung.
        design: The hardware; default: `Design()`.
        update: ``"adamw"``, ``"sgd"`` or ``"lns-madam"``; default: LNS-Madam for an LNS, AdamW
            for all else.

    Returns:
        Energies by pass, layer and part.

    Raises:
        ValueError: No such format or update, or one that doesn't fit the design.
    """
    costs, design = costs or load_costs(), design or Design()
    unit = unit_of(fmt, design)
    rule = update_of(update or ("lns-madam" if unit.name.startswith("lns") else "adamw"))
    entries: dict[tuple[str, str, str], list[Rows]] = {}
    groups = {"(optimizer)": "(optimizer)"} | {work.layer: work.group for work in counts.works}
    for work in counts.works:
        for part, terms in _work_terms(work, unit, design):
            entries.setdefault((work.phase, work.layer, part), []).append(_paid(terms, costs))
    if counts.weights:
        for part, terms in _update_terms(counts.weights, unit, rule):
            entries[UPDATE, "(optimizer)", part] = [_paid(terms, costs)]
    return Energy(
        format=unit.name,
        entries=tuple(
            Entry(phase, layer, groups[layer], part, sum_rows(rows))
            for (phase, layer, part), rows in entries.items()
        ),
        costs=costs,
        update=rule.name if counts.weights else None,
    )


def compare(
    counts: Counts,
    formats: Iterable[str | Format],
    costs: CostTable | None = None,
    *,
    design: Design | None = None,
) -> dict[str, Energy]:
    """`energy` in several formats, by name, with one cost table and one design."""
    costs = costs or load_costs()
    found = [energy(counts, fmt, costs, design=design) for fmt in formats]
    return {result.format: result for result in found}


def _work_terms(
    work: Work, unit: Unit, design: Design
) -> Iterator[tuple[str, Mapping[str, float]]]:
    if work.macs and work.results:
        length = work.macs / work.results
        blocks = work.results * math.ceil(length / unit.block)
        bins = blocks * min(unit.bins, unit.block, math.ceil(length))
        paid = (
            (work.macs, unit.per_product),
            (blocks, unit.per_block),
            (bins, unit.per_bin),
            (work.results, unit.per_result),
        )
        for part in DATAPATH:
            yield part, scaling.total((times, _part(parts, part)) for times, parts in paid)
        reads = 2 * work.macs * unit.bits / design.reuse / 64
        yield BUFFER, {f"sram_{design.buffer}_64": reads}
    yield DRAM, {"dram_32": work.moved.total * unit.bits / 32}


def _part(parts: Parts, part: str) -> Mapping[str, float]:
    return parts.get(part, {})


def _update_terms(
    weights: int, unit: Unit, rule: Update
) -> Iterator[tuple[str, Mapping[str, float]]]:
    yield MULTIPLY, scaling.total([(weights, rule.operations)])
    copy = unit.bits if unit.bits < rule.weight_bits else 0
    bits = 2 * rule.weight_bits + 2 * rule.state_bits + unit.bits + copy
    yield DRAM, {"dram_32": weights * bits / 32}


def _paid(terms: Mapping[str, float], costs: CostTable) -> Rows:
    return {row: count * costs.rows[row].picojoules for row, count in terms.items() if count}
