"""Results grouped as people think of them: a series, a folder or an upload of pictures, or a single slice.

A series, which DICOM or the user names, is decided by the rule that every command uses, `decide_series`. The pictures
of a folder may show several patients, so a folder is not averaged: its most urgent slice stands for it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from edge_ct.decision import Decision, decide_series
from edge_ct.manifest import DecisionRule

from .records import URGENCY, Row, read_row, select_rows

Kind = Literal["series", "folder", "slice"]
Shown = Literal["all", "positive", "refer", "rejected", "negative", "reviewed"]
Order = Literal["urgency", "newest", "name"]


def _key(table: str = "") -> str:
    """Return the SQL of a result's group: results with the same key are one group.

    The bundle is part of the key, because answers of two models are never averaged. So is the day of a folder, because
    a watched folder receives another patient's pictures tomorrow.
    """
    directory = f"rtrim({table}source, replace({table}source, '/', ''))"
    bundle = f"substr({table}bundle, 1, 16)"
    return (
        f"CASE WHEN {table}series IS NOT NULL THEN 's' || {bundle} || coalesce({table}patient, '') || ' ' || "
        f"coalesce({table}study, '') || ' ' || {table}series "
        f"WHEN {directory} <> '' THEN 'f' || {bundle} || substr({table}time, 1, 10) || {directory} "
        f"ELSE 'i' || {table}id END"
    )


INDEX = f"CREATE INDEX IF NOT EXISTS results_by_group ON results ({_key()})"
_READING = (
    "CASE v.verdict WHEN 'agree' THEN r.decision "
    "WHEN 'override' THEN CASE v.label WHEN 'unusable' THEN 'rejected' ELSE v.label END END"
)
_SUMMARIES = f"""
SELECT substr({_key("r.")}, 1, 1), count(*), count(r.probability), sum(coalesce({_READING}, r.decision) = 'positive'),
  sum(r.state = 'reviewed'), avg(r.probability), max(r.probability),
  sum(r.lesion_share * r.lung_area) / sum(r.lung_area), max(r.id),
  sum(r.decision = 'positive'), sum(r.decision = 'refer'),
  sum({_READING} = 'positive'), sum({_READING} = 'negative'), sum({_READING} = 'refer'),
  sum(r.state = 'open' AND r.probability IS NOT NULL), r.bundle,
  series_decision(CASE WHEN {_READING} IS 'rejected' THEN NULL ELSE r.probability END),
  key_slice(r.id, r.probability, {_READING}), max(r.source),
  max(:search = '' OR instr(lower(r.source), :search) OR instr(lower(r.series), :search)
    OR instr(lower(r.study), :search) OR instr(lower(r.patient), :search) OR instr(lower(v.reviewer), :search)
    OR r.patient IS :patient AND :patient IS NOT NULL) AS found
FROM results r LEFT JOIN reviews v ON v.id = r.review
"""
_EACH_GROUP = f"GROUP BY {_key('r.')} HAVING found"
_ONE_GROUP = f"WHERE {_key('r.')} = (SELECT {_key()} FROM results WHERE id = :result) GROUP BY {_key('r.')}"
_KINDS: dict[str, Kind] = {"s": "series", "f": "folder", "i": "slice"}


class GroupQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which groups a page shows, and in which order.

    Attributes:
        search: Only groups in which a file, series, study or pseudonym contains this text, or a reviewer.
        patient: Pseudonym of the search text, which finds a patient by the identifier in clear.
        shown: Only groups with this decision, or only those that have been reviewed.
        order: `urgency`: open groups first, the most urgent of them on top; `newest`; or `name`.
        limit: Maximum number of groups.
        offset: Number of groups to leave out at the start.
    """

    search: str = ""
    patient: str | None = None
    shown: Shown = "all"
    order: Order = "urgency"
    limit: int = 50
    offset: int = 0


FIRST_GROUPS = GroupQuery()


class GroupSummary(msgspec.Struct, frozen=True):
    """What SQL knows of a group of results.

    Attributes:
        kind: `series`, `folder` (a folder or an upload), or `slice` for a slice that belongs to neither.
        slices: Number of results.
        judged: Number of results with a probability.
        positive: Number of results that are positive: by their review, else by the model.
        reviewed: Number of results with a review.
        probability: Of a series the mean, of other groups the highest; None if no slice was judged.
        lesion_share: Fraction of the lung that shows opacities, over all slices of the group; None if unknown.
        decision: The decision of the model.
        reading: The decision of the reviewers, which counts before that of the model; None if slices are open.
        last: Id of the latest result.
        key_slice: Id of the most telling slice: one that a reviewer reads as positive, else that with the highest
            probability.
        name: The last of the names of its files.
    """

    kind: Kind
    slices: int
    judged: int
    positive: int
    reviewed: int
    probability: float | None
    lesion_share: float | None
    decision: Decision
    reading: Decision | None
    last: int
    key_slice: int
    name: str

    @property
    def outcome(self) -> Decision:
        """The decision that counts: that of the reviewers, else that of the model."""
        return self.reading or self.decision

    @property
    def shown(self) -> Shown:
        """The filter under which the group is shown."""
        return "reviewed" if self.reading else self.decision


class SliceGroup(GroupSummary, frozen=True):
    """A group of results with its most telling slice, `row`."""

    row: Row


class GroupPage(msgspec.Struct, frozen=True):
    """A page of the list of groups.

    Attributes:
        groups: The groups on this page.
        total: Number of groups that match search and filter.
        counts: Number of groups that match the search, by filter.
    """

    groups: list[SliceGroup]
    total: int
    counts: dict[str, int]


def list_groups(connection: sqlite3.Connection, rule: DecisionRule, seal: str, query: GroupQuery) -> GroupPage:
    """Return one page of the groups.

    Args:
        connection: The worklist.
        rule: The decision rule of the current bundle.
        seal: The seal of the current bundle; a series that another bundle judged is shown by its most urgent slice.
        query: Which groups to show.
    """
    values = {"search": query.search.lower(), "patient": query.patient}
    summaries = _summarise(connection, rule, seal, _EACH_GROUP, values)
    counts = dict.fromkeys(("all", *URGENCY, "reviewed"), 0)
    counts["all"] = len(summaries)
    for summary in summaries:
        counts[summary.shown] += 1
    listed = [summary for summary in summaries if query.shown in ("all", summary.shown)]
    listed.sort(key=_ORDERS[query.order])
    page = listed[query.offset : query.offset + query.limit]
    return GroupPage(_complete(connection, page), len(listed), counts)


def find_group(connection: sqlite3.Connection, rule: DecisionRule, seal: str, result: int) -> SliceGroup | None:
    """Return the group that a result belongs to; None if there is no such result."""
    values = {"search": "", "patient": None, "result": result}
    groups = _complete(connection, _summarise(connection, rule, seal, _ONE_GROUP, values))
    return groups[0] if groups else None


def group_rows(connection: sqlite3.Connection, number: int) -> list[Row]:
    """Return the results of the group that a result belongs to, in the natural order of their names."""
    query = f"{select_rows(connection)} WHERE {_key('r.')} = (SELECT {_key()} FROM results WHERE id = ?)"
    rows = [read_row(values) for values in connection.execute(query, (number,)).fetchall()]
    return sorted(rows, key=lambda row: (natural_key(row.source), row.id))


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key by which `slice2` precedes `slice10`."""
    parts = re.split(r"([0-9]{1,18})", text)
    return tuple((1, int(part), "") if i % 2 else (0, 0, part.casefold()) for i, part in enumerate(parts))


def _complete(connection: sqlite3.Connection, summaries: Sequence[GroupSummary]) -> list[SliceGroup]:
    """Add their most telling slices to groups."""
    query = f"{select_rows(connection)} WHERE r.id IN ({', '.join('?' * len(summaries))})"
    selected = connection.execute(query, [summary.key_slice for summary in summaries]).fetchall()
    rows = {row.id: row for row in map(read_row, selected)}
    return [SliceGroup(**msgspec.structs.asdict(summary), row=rows[summary.key_slice]) for summary in summaries]


def _summarise(
    connection: sqlite3.Connection, rule: DecisionRule, seal: str, which: str, values: Mapping[str, object]
) -> list[GroupSummary]:
    class SeriesDecision:
        """The SQL aggregate that decides a series by `decide_series`."""

        def __init__(self) -> None:
            self.probabilities: list[float] = []

        def step(self, probability: float | None) -> None:
            if probability is not None:
                self.probabilities.append(probability)

        def finalize(self) -> str | None:
            verdict = decide_series(self.probabilities, rule)
            return verdict.decision if verdict else None

    aggregates: list[tuple[str, int, Any]] = [("series_decision", 1, SeriesDecision), ("key_slice", 3, _KeySlice)]
    for aggregate in aggregates:
        connection.create_aggregate(*aggregate)
    return [_read_summary(seal, *row) for row in connection.execute(_SUMMARIES + which, values)]


class _KeySlice:
    """The SQL aggregate that returns the id of the most telling slice."""

    def __init__(self) -> None:
        self.best: tuple[float, int] = (-2.0, 0)

    def step(self, number: int, probability: float | None, reading: str | None) -> None:
        weight = (-1.0 if probability is None else probability) + (2.0 if reading == "positive" else 0.0)
        if weight > self.best[0]:
            self.best = (weight, number)

    def finalize(self) -> int:
        return self.best[1]


def _read_summary(
    seal: str,
    kind: str,
    slices: int,
    judged: int,
    positive: int,
    reviewed: int,
    mean: float | None,
    highest: float | None,
    lesion_share: float | None,
    last: int,
    model_positive: int,
    model_refer: int,
    read_positive: int | None,
    read_negative: int | None,
    read_refer: int | None,
    open_judged: int,
    bundle: str,
    series_decision: Decision | None,
    key_slice: int,
    name: str,
    found: int,
) -> GroupSummary:
    averaged = kind == "s" and bundle == seal
    decision: Decision
    if not judged:
        decision = "rejected"
    elif averaged:
        decision = series_decision or "rejected"
    else:
        decision = "positive" if model_positive else "refer" if model_refer else "negative"
    # Slices that were not judged, such as those above the lungs, need no review where others were judged.
    reading: Decision | None = None
    if read_positive:
        reading = "positive"
    elif reviewed == slices or (judged and not open_judged):
        reading = "refer" if read_refer else "negative" if read_negative else "rejected"
    probability = mean if averaged else highest
    return GroupSummary(
        _KINDS[kind],
        slices,
        judged,
        positive,
        reviewed,
        probability,
        lesion_share,
        decision,
        reading,
        last,
        key_slice,
        name,
    )


def _by_urgency(summary: GroupSummary) -> tuple[bool, int, float, int]:
    probability = -1.0 if summary.probability is None else summary.probability
    return summary.reading is not None, URGENCY[summary.outcome], -probability, -summary.last


_ORDERS: dict[Order, Callable[[GroupSummary], Any]] = {
    "urgency": _by_urgency,
    "newest": lambda summary: -summary.last,
    "name": lambda summary: (natural_key(summary.name), summary.last),
}
