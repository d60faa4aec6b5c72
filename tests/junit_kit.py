"""What readers of JUnit XML rely on: the elements, attributes and order that the schema of Jenkins' plugin allows.

Checked by hand, as no schema comes with Python: names, required attributes, the order of children, numbers, and that
the counts of a suite are those of its cases.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "disabled", "errors"},
    "testsuite": {
        *("name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id"),
        "package",
    },
    "properties": set[str](),
    "property": {"name", "value"},
    "testcase": {"name", "assertions", "time", "classname", "status"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"message"},
    "system-out": set[str](),
}
REQUIRED = {"testsuite": {"name", "tests"}, "property": {"name", "value"}, "testcase": {"name", "classname"}}
CHILDREN = {
    "testsuites": r"(testsuite )*",
    "testsuite": r"(properties )?(testcase )*(system-out )?(system-err )?",
    "properties": r"(property )+",
    "testcase": r"(skipped |error |failure |system-out |system-err )*",
}
"""The tags of the children in order, each followed by a blank."""
COUNTED = {"tests": "testcase", "failures": "failure", "errors": "error"}


def check_junit(whole: ET.Element) -> None:
    """Fail where a reader of the format could stumble."""
    assert whole.tag == "testsuites"
    for element in whole.iter():
        _check(element)
    for suite in (whole, *whole):
        for name, tag in COUNTED.items():
            assert int(suite.attrib[name]) == len(list(suite.iter(tag))), (suite.get("name"), name)
        assert int(suite.get("skipped", "0")) == (len(list(suite.iter("skipped"))) if suite is not whole else 0)
    for suite in whole:
        told = [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")]
        assert len(told) == len(set(told)), "a reader takes cases of the same name for one"


def _check(element: ET.Element) -> None:
    tag, given = element.tag, set(element.attrib)
    assert tag in ATTRIBUTES, tag
    assert given <= ATTRIBUTES[tag], (tag, given)
    assert REQUIRED.get(tag, set[str]()) <= given, (tag, given)
    children = "".join(f"{child.tag} " for child in element)
    assert re.fullmatch(CHILDREN.get(tag, ""), children), (tag, children)
    for name in {"time", *COUNTED} & given:
        number = r"\d+(\.\d+)?" if name == "time" else r"\d+"
        assert re.fullmatch(number, element.attrib[name]), (tag, name, element.attrib[name])
    if tag in ("testsuites", "testsuite", "properties", "testcase"):
        assert not (element.text or "").strip(), (tag, element.text)
