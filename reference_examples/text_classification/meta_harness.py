"""Search for a better harness on the support tickets, or on a folder of labelled texts.

    python meta_harness.py
    python meta_harness.py --dataset DIR --text-field question --label-field answer --iterations 8

Whatever follows is passed on to `metaharness run`, such as `--model anthropic:NAME --proposer agent_sdk`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from metaharness.cli import main as metaharness


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Search for a better harness on a folder of labelled texts.")
    parser.add_argument(
        "--dataset", help="folder with train.jsonl, search.jsonl (or val.jsonl), test.jsonl; default: the tickets"
    )
    parser.add_argument("--text-field", default="text", help="the field of --dataset that holds the text")
    parser.add_argument("--label-field", default="label", help="the field of --dataset that holds the label")
    parser.add_argument("--iterations", type=int, help="candidates to propose; default: what the proposer has")
    parser.add_argument("--model", default="embedded:icl", help="the frozen model")
    parser.add_argument("--proposer", default="scripted", help="what writes the candidates")
    options, more = parser.parse_known_args(argv)
    here = str(Path(__file__).resolve().parent)
    return metaharness(
        [
            *("run", "--domain", here, "--text-field", options.text_field, "--label-field", options.label_field),
            *(("--data", options.dataset) if options.dataset is not None else ()),
            *("--model", options.model, "--proposer", options.proposer),
            *(("--iterations", str(options.iterations)) if options.iterations is not None else ()),
            *more,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
