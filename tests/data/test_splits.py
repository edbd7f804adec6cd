"""The promises of the splits: stable, and a concept or a pair on one side."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.data.records import Split
from unclip.data.splits import is_unseen_concept, order, share, split_pairs

pairs = st.sets(
    st.tuples(st.text("abcdef", min_size=1, max_size=3), st.sampled_from("pqrstuvw")), max_size=120
)


def test_the_hash_is_frozen() -> None:
    # Computed once with hashlib.blake2b(b"concept\0u1f34e", digest_size=8): a change would mix test pictures
    # into the training of models that exist.
    assert f"{share('concept', 'u1f34e'):.12f}" == "0.338694815815"
    assert not is_unseen_concept("u1f34e")


@given(pairs)
@settings(max_examples=60)
def test_a_concept_is_held_out_in_all_styles_or_in_none(pairs: set[tuple[str, str]]) -> None:
    splits = split_pairs(pairs, {"p"})
    assert splits.keys() == pairs
    for (concept, style), split in splits.items():
        if style == "p":
            assert split is Split.UNSEEN_STYLES
        else:
            assert (split is Split.UNSEEN_CONCEPTS) == is_unseen_concept(concept)


@given(pairs)
@settings(max_examples=60)
def test_a_pair_is_held_out_only_while_its_concept_is_trained(pairs: set[tuple[str, str]]) -> None:
    splits = split_pairs(pairs)
    for (concept, _), split in splits.items():
        if split is Split.UNSEEN_PAIRS:
            assert any(other == Split.TRAIN for (name, _), other in splits.items() if name == concept)


@given(pairs, st.tuples(st.text("xyz", min_size=1, max_size=3), st.sampled_from("pqrs")))
@settings(max_examples=60)
def test_other_concepts_do_not_change_a_split(pairs: set[tuple[str, str]], new: tuple[str, str]) -> None:
    before, after = split_pairs(pairs), split_pairs(pairs | {new})
    assert all(after[pair] == split for pair, split in before.items())


def test_the_shares_are_what_was_promised() -> None:
    splits = split_pairs((f"concept {n}", style) for n in range(4000) for style in "abcde")
    counts = [sum(split is wanted for split in splits.values()) / len(splits) for wanted in Split]
    train, unseen_pairs, unseen_concepts, unseen_styles = counts
    assert 0.945 < train < 0.955
    assert 0.027 < unseen_pairs < 0.033
    assert 0.016 < unseen_concepts < 0.024
    assert unseen_styles == 0


@given(st.lists(st.text(max_size=5), unique=True, max_size=30))
def test_the_order_depends_on_the_keys_alone(keys: list[str]) -> None:
    assert [keys[place] for place in order(keys)] == [keys[::-1][place] for place in order(keys[::-1])]
    assert sorted(order(keys)) == list(range(len(keys)))
