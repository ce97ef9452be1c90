"""The reference of promises names tests that exist, and no other product."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "promises.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!what must|---)(.+?) \| `(.+?)` \|$", PAGE, re.MULTILINE)


def test_every_promise_names_a_test_that_exists():
    """Each row leads to one test function, in a file of that name."""
    assert len(ROWS) >= 40
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(ROWS) == sum(not line.startswith("| what must") for line in lines)
    for promise, reference in ROWS:
        path, _, name = reference.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:async )?def {name}\(", text, re.MULTILINE), f"{promise}: {reference}"


def test_every_complaint_s_test_is_in_the_list():
    """Each test beside this one that plays a complaint is named there."""
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE):
                assert f"{path.relative_to(ROOT)}::{name}" in PAGE
