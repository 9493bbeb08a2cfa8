"""The semantic version follows from the signatures: laws that hold for any two of them."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.services.signatures import ORDER, diff, next_semver
from quarterstore.records.registry import Feature, Signature, Tensor

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
TENSORS = st.builds(
    Tensor,
    name=NAMES,
    datatype=st.sampled_from(["FP32", "INT64", "BYTES"]),
    shape=st.sampled_from([(-1,), (-1, 1), (-1, 3)]),
    optional=st.booleans(),
)
FEATURES = st.builds(
    Feature,
    name=NAMES,
    kind=st.sampled_from(["number", "category"]),
    input=st.sampled_from(["a", "b"]),
    index=st.integers(0, 2),
    optional=st.booleans(),
)


def several(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """Each name once."""
    return st.lists(of, unique_by=lambda each: each.name, max_size=4).map(tuple)  # type: ignore[attr-defined]


SIGNATURES = st.builds(
    Signature,
    inputs=several(TENSORS),
    outputs=several(TENSORS),
    features=several(FEATURES),
    task=st.sampled_from(["classification", "regression"]),
    label=st.sampled_from([None, "a", "b"]),
    score=st.sampled_from([None, "a", "b"]),
    classes=st.sampled_from([(), ("no", "yes"), ("yes", "no")]),
)
SEMVERS = st.tuples(*[st.integers(0, 50)] * 3)


def numbers(semver: str) -> tuple[int, ...]:
    return tuple(map(int, semver.split(".")))


@given(SIGNATURES)
def test_a_signature_does_not_differ_from_itself(one: Signature) -> None:
    assert diff(one, one) == ("patch", ())


@given(SIGNATURES, st.randoms())
def test_the_order_of_named_things_says_nothing(one: Signature, chance: object) -> None:
    parts = {name: list(getattr(one, name)) for name in ("inputs", "outputs", "features")}
    for part in parts.values():
        chance.shuffle(part)  # type: ignore[attr-defined]
    assert diff(one, replace(one, **{name: tuple(part) for name, part in parts.items()})) == ("patch", ())


@given(SIGNATURES, SIGNATURES)
def test_a_bump_has_words_and_no_words_are_a_patch(one: Signature, other: Signature) -> None:
    found = diff(one, other)
    assert (found.bump == "patch") == (found.words == ())
    assert found == diff(one, other), "and the same ones every time"


@given(SIGNATURES, TENSORS)
def test_a_required_input_more_breaks_every_caller(one: Signature, more: Tensor) -> None:
    assume(more.name not in {tensor.name for tensor in one.inputs})
    wider = replace(one, inputs=(*one.inputs, replace(more, optional=False)))
    assert diff(one, wider) == ("major", (f"input {more.name} added",))


@given(SIGNATURES, TENSORS)
def test_an_optional_input_or_an_output_more_breaks_nobody(one: Signature, more: Tensor) -> None:
    if more.name not in {tensor.name for tensor in one.inputs}:
        wider = replace(one, inputs=(*one.inputs, replace(more, optional=True)))
        assert diff(one, wider) == ("minor", (f"optional input {more.name} added",))
    if more.name not in {tensor.name for tensor in one.outputs}:
        assert diff(one, replace(one, outputs=(*one.outputs, more))).bump == "minor"


@given(SIGNATURES, FEATURES)
def test_a_feature_more_is_minor_where_it_is_optional_and_major_where_not(one: Signature, more: Feature) -> None:
    assume(one.features and more.name not in {feature.name for feature in one.features})
    found = diff(one, replace(one, features=(*one.features, more)))
    assert found.bump == ("minor" if more.optional else "major")


@given(SIGNATURES, SIGNATURES)
def test_what_is_added_one_way_is_removed_the_other(one: Signature, other: Signature) -> None:
    assume(bool(one.features) == bool(other.features))

    def said(words: tuple[str, ...], verb: str) -> set[str]:
        return {each.removeprefix("optional ").removesuffix(verb) for each in words if each.endswith(verb)}

    def added(before: Signature, after: Signature) -> set[str]:
        return {
            f"{kind} {name} "
            for kind in ("input", "output", "feature")
            for name in {each.name for each in getattr(after, f"{kind}s")}
            - {each.name for each in getattr(before, f"{kind}s")}
        }

    there, back = diff(one, other), diff(other, one)
    if there.bump == "major":  # what only adds is not said beside what breaks
        assert said(there.words, "removed") == added(other, one)
    if there.bump == back.bump == "major":
        assert said(there.words, "added") <= said(back.words, "removed")


@given(SIGNATURES, SIGNATURES)
def test_an_input_or_feature_less_is_never_less_than_major(one: Signature, other: Signature) -> None:
    gone = {each.name for each in one.inputs} - {each.name for each in other.inputs}
    if gone:
        found = diff(one, other)
        assert found.bump == "major"
        assert all(f"input {name} removed" in found.words for name in gone)


def test_features_that_change_places_in_one_tensor_break_a_caller_who_sends_them_by_place() -> None:
    shape = Signature(inputs=(Tensor("x", "FP32", (-1, 2)),), outputs=(Tensor("y", "FP32", (-1, 1)),))
    age, pay = Feature("age", "number", "x", 0), Feature("pay", "number", "x", 1)
    before = replace(shape, features=(age, pay))
    after = replace(shape, features=(replace(pay, index=0), replace(age, index=1)))
    assert diff(before, after) == ("major", ("feature age x[0] -> x[1]", "feature pay x[1] -> x[0]"))


@given(SEMVERS)
def test_bumps_are_in_order_and_each_is_above_what_was(parts: tuple[int, int, int]) -> None:
    current = ".".join(map(str, parts))
    found = [numbers(next_semver(current, bump)) for bump in ORDER]
    assert parts < found[0] < found[1] < found[2]
    assert found[1][2] == 0 and found[2][1:] == (0, 0)
