"""What is in the dataset, and what would invalidate a result? Tables, a figure and a page.

python experiments/explore_dataset.py                          # phantoms, drawn if missing
python experiments/explore_dataset.py --data MURA-v1.1         # a minute or two: decodes all images
python experiments/explore_dataset.py --data MURA-v1.1 --no-images   # seconds

Exits with status 1 if it finds a problem: shared patients, copies across splits, unreadable files.
"""

import sys
import textwrap
from datetime import datetime
from pathlib import Path

from mura_skorch import read_studies
from mura_skorch.cli.options import add_option, find_data, make_parser, start_script
from mura_skorch.exploration import (
    describe,
    explore_studies,
    format_table,
    summary_tables,
    write_exploration,
)
from mura_skorch.utils.text import LINE_WIDTH

MARKS = {"bad": "!! ", "plain": "-  ", "good": "ok "}


def main(argv=None):
    """Count, print and write; return 0, or 1 if there is a problem."""
    args = parse(argv)
    args.data = find_data(args.data)
    try:
        studies = read_studies(args.data, use_csv=not args.no_csv)
        found = explore_studies(studies, read_images=not args.no_images, n_jobs=args.jobs)
        name = Path(args.data).resolve().name
        page = write_exploration(found, args.out, title=f"The dataset {name}")
    except (OSError, ValueError) as error:
        sys.exit(f"explore_dataset: {error}")
    for name, table in summary_tables(found).items():
        print(f"\n{name}\n{'=' * len(name)}\n{format_table(table)}")
    print()
    findings = describe(found)
    for finding in findings:
        print(
            textwrap.fill(MARKS[finding.kind] + finding.text, LINE_WIDTH, subsequent_indent="   ")
        )
    print(f"{found.note or ''}\n\nTables, figure and page: {page}")
    return int(any(finding.kind == "bad" for finding in findings))


def parse(argv):
    """Return the arguments."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_option(parser, "--data")
    add("--no-images", action="store_true", help="do not read the image files")
    add("--no-csv", action="store_true", help="ignore the CSV files")
    add("--jobs", type=int, default=-1, help="threads that decode (default: one per core)")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    out = Path("results") / f"dataset-{stamp}"
    add_option(parser, "--out", default=out, help="folder of tables, figure and page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    start_script()
    sys.exit(main())
