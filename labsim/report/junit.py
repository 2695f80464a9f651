"""A run as JUnit XML: a test case per step and per broken invariant."""

from __future__ import annotations

from xml.etree import ElementTree

from labsim.scenario.verdicts import RunResult, Verdict


def junit_xml(results: list[RunResult]) -> bytes:
    """The JUnit document of some runs; times are in-world seconds."""
    root = ElementTree.Element("testsuites")
    for result in results:
        suite = ElementTree.SubElement(root, "testsuite", name=result.scenario)
        failures = skipped = 0
        for step in result.steps:
            seconds = f"{step.ended_s - step.started_s:.3f}"
            case = ElementTree.SubElement(
                suite, "testcase", classname=result.scenario, name=f"{step.index + 1:02d} {step.title}", time=seconds
            )
            if step.verdict is Verdict.FAILED:
                failures += 1
                ElementTree.SubElement(case, "failure", message=step.message).text = _printable(step.page)
            elif step.verdict in (Verdict.SKIPPED, Verdict.INCONCLUSIVE):
                skipped += 1
                ElementTree.SubElement(case, "skipped", message=step.message or str(step.verdict))
        for violation in result.violations:
            failures += 1
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"{result.scenario}.invariants", name=violation.invariant, time="0"
            )
            text = f"at {violation.at_s:.3f} s, history line {violation.line}"
            ElementTree.SubElement(case, "failure", message=_printable(violation.message)).text = text
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(failures))
        suite.set("skipped", str(skipped))
        suite.set("time", f"{result.duration_s:.3f}")
    ElementTree.indent(root)
    encoded: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return encoded


def _printable(text: str) -> str:
    """Without the control characters that XML cannot carry (a console prints them)."""
    return "".join(letter for letter in text if letter in "\n\t" or ord(letter) >= 32)
