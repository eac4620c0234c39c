"""The first lines of a report of an index: what one should know of a selection before training on it."""

import math

from bisieve.index.statistics import SHORTCUT_MARGIN, Statistics, has_stronger_shortcut
from bisieve.ranking.strategies import strategy_of
from bisieve.report.collect import IndexReport
from bisieve.report.page import Finding
from bisieve.tools.selection_notes import rule_for_ties

_TIES = 0.25  # of a selection, from which on its ties are worth attention


def verdict(report: IndexReport) -> list[Finding]:
    """Return the findings on a selection: gate, shortcut, ties, redundancy, and what could not be read."""
    gate = {
        True: Finding("good", "Gate passed.", "This version is the last one that passed bisieve gate."),
        False: Finding("warning", "Gate:", "another version passed bisieve gate last, not this one."),
        None: Finding("note", "Gate not passed.", "No version of this index has passed bisieve gate yet."),
    }[report.passed]
    corpus, kept = report.counts.corpus.statistics(), report.counts.kept.statistics()
    if not kept.rollouts:
        none = "no rollout has a positive step, and --all-negative drop selects no others."
        text = none if corpus.rollouts else "the index has no usable rollout."
        return [gate, Finding("warning", "Empty:", text)]
    findings = [gate, _shortcut(corpus, kept), *_ties(report), _redundancy(corpus, kept)]
    findings += [Finding("note", "Note.", f"{note}.") for note in report.notes if _is_new(note)]
    return findings + [Finding("note", "Not shown:", f"{note}.") for note in report.examples.notes]


def _is_new(note: str) -> bool:
    """Return whether a note says what the findings on ties and on a shortcut do not."""
    return "are ties" not in note and "position of a step alone" not in note


def _shortcut(corpus: Statistics, kept: Statistics) -> Finding:
    was, now = corpus.shortcut, kept.shortcut
    if math.isnan(now):
        return Finding("note", "No shortcut to measure.", "All steps of the selection have the same label.")
    numbers = f"AUC of position → label {now:.2f} in the selection, {was:.2f} in the corpus"
    if has_stronger_shortcut(kept, corpus):
        text = (
            f"the position of a step alone tells its label: {numbers}. A model can learn that alone: compare "
            "it with the position baseline of bisieve evaluate."
        )
        return Finding("warning", "Shortcut:", text)
    return Finding(
        "good", "No new shortcut:", f"{numbers}; a warning begins {SHORTCUT_MARGIN} farther from 0.5."
    )


def _ties(report: IndexReport) -> list[Finding]:
    ties = report.ties
    if ties is None:
        return []
    rollouts, kept_rollouts = report.counts.total("rollouts")
    if kept_rollouts == rollouts:
        return [Finding("note", "All rollouts are kept:", "neither the score nor a rule for ties decides.")]
    if not ties.tied:
        return [Finding("good", "No ties at the cutoff:", "the score alone decides what is kept.")]
    share = ties.tied / max(ties.selected, 1)
    rule, kept = rule_for_ties(report.view.parameters), f"{ties.tied:,} of {ties.selected:,} kept rollouts"
    text = (
        f"{kept} ({share:.1%}) have the score of a dropped one; they were chosen from "
        f"{ties.tied + ties.left_out:,} equal ones by the rule for ties, {rule}."
    )
    if strategy_of(report.view.parameters.strategy).passes:
        text = f"for {kept} ({share:.1%}) the rule for ties, {rule}, decides; reversed, it would keep others."
    return [Finding("warning" if share >= _TIES else "note", "Ties:", text)]


def _redundancy(corpus: Statistics, kept: Statistics) -> Finding:
    share = kept.questions / max(corpus.questions, 1)
    text = (
        f"{kept.rollouts_per_question:.2f} rollouts a question in the selection, "
        f"{corpus.rollouts_per_question:.2f} in the corpus; {kept.questions:,} of {corpus.questions:,} "
        f"questions ({share:.1%}) are covered."
    )
    now, was = (round(each.rollouts_per_question, 2) for each in (kept, corpus))  # as they are shown
    if now == was:
        return Finding("note", "As redundant as the corpus:", text)
    return Finding(*(("warning", "More redundant:") if now > was else ("good", "Less redundant:")), text)
