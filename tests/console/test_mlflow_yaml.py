"""The YAML of MLflow's store of files, read without a library for YAML and compared with one."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.mlflow.plain_yaml import parsed
from quarterstore.records.faults import Fault, Invalid

WORDS = st.text(
    alphabet=st.one_of(
        st.sampled_from(list(" \n'\":#-,{}[]ab\\é\t.01e+~\u2028")), st.characters(exclude_categories=["Cs"])
    ),
    max_size=200,
)
TRAPS = st.sampled_from(
    [
        "yes",
        "no",
        "null",
        "~",
        "1e5",
        "12:30",
        "2020-01-01",
        "0x1f",
        "1_000",
        ".inf",
        "=",
        "<<",
        "-",
        "?",
        "- a",
        "a: b",
    ]
)
SCALARS = st.one_of(
    WORDS,
    TRAPS,
    st.integers(-(2**63), 2**63 - 1),
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:/ -]{0,60}[A-Za-z0-9]", fullmatch=True)


def written(table: object, dumper: type) -> str:
    """As mlflow.utils.yaml_utils.write_yaml does it."""
    text: str = yaml.dump(table, default_flow_style=False, allow_unicode=True, Dumper=dumper)
    return text


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(NAMES, st.one_of(SCALARS, st.dictionaries(NAMES, SCALARS, min_size=1, max_size=3)), max_size=4),
    st.sampled_from([yaml.SafeDumper, yaml.CSafeDumper]),
)
def test_what_mlflows_writer_makes_is_read_as_it_was(table: dict[str, object], dumper: type) -> None:
    """A line break of Unicode that the C writer leaves bare (U+0085) is refused, as no reader agrees about it."""
    text = written(table, dumper) if table else ""
    try:
        found = parsed(text)
    except Invalid:
        assert "\x85" in text
        return
    assert found == table


@settings(max_examples=1000, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab: \n'\"#-,{}[]\\&*!|>01.")), max_size=30))
def test_whatever_is_read_at_all_is_read_as_a_library_reads_it(text: str) -> None:
    with contextlib.suppress(Fault):
        found = parsed(f"k: {text}")
        theirs = yaml.safe_load(f"k: {text}")
        assert found == {key: {} if value == [] else value for key, value in theirs.items()}


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [id]",
        "a: &x 1\nb: *x",
        "a: {b: 1}",
        "a: |\n  text",
        "a:\n- 1",
        "a: 1\na: 2",
        "a: 'open",
        "a: 1 # why",
        "a:\n  b:\n    c: 1",
        "- a",
        "just words",
        "a: yes",
        "a: 2020-01-01",
        "a: \x1b[2J",
        "a: " + "9" * 400,
    ],
)
def test_what_mlflow_does_not_write_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parsed(text)
