"""How often a search over candidates that are no better than its baseline says otherwise.

A simulated search has one baseline and 60 candidates on 50 binary cases. Nothing distinguishes them: on every case each
has the same chance of a right answer, which differs from case to case. A candidate is an edit of a parent, so on a part
of the cases it answers as its parent did, in every trial; on the others anew. It is judged as a run judges: by
`verdicts.judge` against the incumbent of its round, by `scoreboard.incumbent` for who that is, by `holdout.choose` and
`verdicts.judge_both` for the headline on 120 cases that nothing was chosen by.

    uv run python benchmarks/searches.py [--searches 1000] [--share 0.65] [--width 1]
"""

from __future__ import annotations

import argparse
import itertools
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from math import comb
from typing import Literal

from metaharness.holdout import choose
from metaharness.records import ObjectiveRecord, ProposalRecord, Score
from metaharness.scoring.measures import PairRow, aggregate
from metaharness.scoring.scoreboard import Iteration, incumbent
from metaharness.scoring.verdicts import judge, judge_both

Parent = Literal["previous", "best", "random"]
PARENTS: tuple[Parent, ...] = ("previous", "best", "random")
TRIALS = (1, 5)
LIMIT = 0.05
"""The share of searches in which something may be claimed that is not so."""
SHARE = 0.65
"""The part of the cases on which a candidate answers as its parent did; of those tried, where most is called better."""
CANDIDATES = 60
SEARCH_CASES = 50
TEST_CASES = 120
ACCURACY = ObjectiveRecord(name="accuracy", direction="max", range=(0.0, 1.0), worst=0.0)


@dataclass(frozen=True)
class Setting:
    """One kind of search."""

    parent: Parent
    trials: int
    share: float = SHARE
    """The part of the cases on which a candidate answers as its parent did."""
    width: int = 1
    """Candidates per round: all of a round are judged against the same incumbent."""
    seed: int = 0
    gain: float = 0.0
    """The part of the wrong answers that candidates get right and the baseline does not; 0: they are equal."""


@dataclass(frozen=True)
class Outcome:
    """What one search has said."""

    better: bool
    """Some candidate was `better` than the incumbent of its round."""
    headline: bool
    """The test said that the winner is better than the baseline."""


@dataclass(frozen=True)
class Candidate:
    """Right answers per case, out of the trials; the cases of the test follow those of the search."""

    number: int
    right: tuple[int, ...]
    context_chars: float

    @property
    def level(self) -> int:
        """Right answers on the cases of the search."""
        return sum(self.right[:SEARCH_CASES])

    def rows(self, trials: int, *, test: bool = False) -> list[PairRow]:
        """As an evaluation leaves them."""
        cases = range(SEARCH_CASES, len(self.right)) if test else range(SEARCH_CASES)
        return [_pair(case, trial, trial < self.right[case]) for case in cases for trial in range(trials)]

    def iteration(self, rows: Sequence[PairRow], setting: Setting) -> Iteration:
        """As the history of a run holds it."""
        total = aggregate(rows, [ACCURACY], trials=setting.trials)
        round_ = 0 if self.number == 0 else 1 + (self.number - 1) // setting.width
        score = Score(
            iteration=self.number,
            split="search",
            sandbox="none",
            model="none",
            planned=len(rows),
            ended=total.ended,
            missing=total.missing,
            statuses=total.statuses,
            objectives=total.objectives,
            context_chars=self.context_chars,
        )
        record = ProposalRecord(iteration=self.number, round=round_, slot=0, layout="file", candidate_hash="")
        return Iteration(record, score=score)


@cache
def _pair(case: int, trial: int, right: bool) -> PairRow:
    return PairRow(str(case), str(case), trial, "ok", 0.0, (float(right),))


class Chances:
    """Draws how many trials of a case are right: of the same cases for every search of a setting."""

    def __init__(self, trials: int, seed: int, gain: float) -> None:
        generator = random.Random(f"cases {seed}")
        chances = [generator.random() for _ in range(SEARCH_CASES + TEST_CASES)]
        self._tables = [_binomial(chance + gain * (1 - chance), trials) for chance in chances]

    def candidate(self, number: int, parent: Candidate | None, share: float, generator: random.Random) -> Candidate:
        """An edit of its parent; None: from nothing."""
        draw = generator.random
        if parent is None:
            right = tuple(bisect(table, draw()) for table in self._tables)
        else:
            right = tuple(
                kept if draw() < share else bisect(table, draw())
                for kept, table in zip(parent.right, self._tables, strict=True)
            )
        return Candidate(number, right, draw())


@cache
def _chances(trials: int, seed: int, gain: float = 0.0) -> Chances:
    return Chances(trials, seed, gain)


def _binomial(chance: float, trials: int) -> list[float]:
    """The probabilities of at most 0, 1, ... of all but the last number of successes."""
    each = [comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(trials)]
    return list(itertools.accumulate(each))


def search(setting: Setting, number: int, *, whole: bool = True) -> Outcome:
    """One search.

    Args:
        setting: Of which kind.
        number: Which one; it decides every draw.
        whole: Judge and score every candidate. Else those below the incumbent are passed over: they can neither be
            `better` nor the next incumbent, so the outcome is the same.
    """
    generator = random.Random(f"{setting} {number}")
    chances = _chances(setting.trials, setting.seed, setting.gain)
    known = [_chances(setting.trials, setting.seed).candidate(0, None, 0.0, generator)]
    scored = [known[0].iteration(known[0].rows(setting.trials), setting)]
    best, better = 0, False
    for _ in range(CANDIDATES // setting.width):
        holder, standard = known[best], known[best].rows(setting.trials)
        for _ in range(setting.width):
            parents = {"previous": known[-1], "best": holder, "random": generator.choice(known)}
            one = chances.candidate(len(known), parents[setting.parent], setting.share, generator)
            known.append(one)
            if not whole and one.level < holder.level:
                continue
            rows = one.rows(setting.trials)
            round_ = 1 + (one.number - 1) // setting.width
            said = judge(
                rows,
                standard,
                ACCURACY,
                iteration=one.number,
                round_number=round_,
                incumbent=best,
                width=setting.width,
            )
            better = better or said.verdict == "better"
            scored.append(one.iteration(rows, setting))
        ahead = incumbent(scored, [ACCURACY])
        assert ahead is not None, "the baseline at least is complete"
        best = ahead.number
    winner, baseline = (chosen.iteration for chosen in choose(scored, [ACCURACY]))
    tested = [known[number].rows(setting.trials, test=True) for number in (winner, baseline)]
    claimed = winner != baseline and judge_both(tested[0], tested[1], ACCURACY).said == "better"
    return Outcome(better, claimed)


def shares(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Of how many searches some candidate was `better`, and of how many the headline claims it."""
    return sum(one.better for one in outcomes) / len(outcomes), sum(one.headline for one in outcomes) / len(outcomes)


def settings(share: float, width: int) -> Iterator[Setting]:
    """The six that are promised."""
    for trials, parent in itertools.product(TRIALS, PARENTS):
        yield Setting(parent, trials, share=share, width=width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--share", type=float, default=SHARE, help="of the cases answered as the parent did")
    parser.add_argument("--width", type=int, default=1, help="candidates per round")
    parser.add_argument("--quick", action="store_true", help="pass over candidates below the incumbent")
    chosen = parser.parse_args()
    print(f"{chosen.searches} searches of {CANDIDATES} candidates, share {chosen.share:g}, {chosen.width} per round")
    with ProcessPoolExecutor() as pool:
        for setting in settings(chosen.share, chosen.width):
            run = partial(search, setting, whole=not chosen.quick)
            outcomes = list(pool.map(run, range(chosen.searches), chunksize=10))
            better, headline = shares(outcomes)
            print(
                f"{setting.trials} trials, parent {setting.parent:8}  some better {better:.3f} ({better / LIMIT:.2f})"
                f"   headline {headline:.3f} ({headline / LIMIT:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
