"""Promises of the whole evaluation: every part reports, twice the same, and nothing half-done is left."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from support.tiny_bundles import parts_of
from unclip.bundle import Bundle, save_bundle
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.errors import BundleError, InputError, UnclipWarning
from unclip.evaluate import ablation, compositions, names, pictures, reranking
from unclip.evaluate.evaluation import Evaluation, Section, Settings, sections
from unclip.evaluate.names import COMPOSED, Name
from unclip.evaluate.report import DOCUMENT, TABLE, document, table, write

WORDS = [Name("cat", "en", "cat"), Name("dog", "en", "dog"), Name("고양이", "ko", "cat")]
COMMAND = "unclip evaluate tiny --data shapes"


@pytest.fixture(scope="module", autouse=True)
def _few_pictures() -> object:
    """As many parts as ever, but few pictures in each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "VARIETY", (6, 3))
        patch.setattr(pictures, "FIXED_PROMPTS", ("a red apple", "빨간 사과"))
        patch.setattr(pictures, "SHEET_SIZE", 64)
        patch.setattr(ablation, "SCALES", (1.0, 3.0))
        patch.setattr(reranking, "COUNTS", (1, 2))
        patch.setattr(compositions, "PAIRS", 6)
        patch.setattr(names, "SHOWN_SIZE", 64)
        patch.setattr(names, "frozen", lambda: ([*WORDS, Name("two cats", COMPOSED, "two cats")], 1))
        yield


def settings(bundle: Path, data: Path, **changes: object) -> Settings:
    usual = {"captions": 20, "only": tuple(Section), "precision": "float32", "device": "cpu"}
    return Settings(bundle=str(bundle), data=data, **{**usual, **changes})


@pytest.fixture(scope="module")
def whole(tiny_bundle: Path, shapes: Path) -> Evaluation:
    """An evaluation of everything, by another judge than the bundle's own CLIP object."""
    evaluation = Evaluation(
        settings(
            tiny_bundle, shapes, judge=str(tiny_bundle), text_decoder=tiny_bundle / "decoder.safetensors"
        )
    )
    steps = list(evaluation.run())
    assert all(0 <= done <= total for _, done, total in steps)
    return evaluation


def test_every_part_reports_its_figures_and_its_time(whole: Evaluation) -> None:
    assert list(whole.seconds) == [section.value for section in Section]
    assert {figure.section for figure in whole.findings.figures} == set(whole.seconds)
    assert not whole.findings.skipped
    for figure in whole.findings.figures:
        estimate = figure.estimate
        assert estimate.count > 0, figure
        if math.isfinite(estimate.value):
            assert estimate.low <= estimate.value + 1e-9, figure
            assert estimate.value <= estimate.high + 1e-9, figure


def test_what_the_issue_asks_for_is_there(whole: Evaluation) -> None:
    found = {(figure.section, figure.name) for figure in whole.findings.figures}
    wanted = {
        "clip": ["R@1", "R@5", "R@10", "zero-shot concept, top 1"],
        "prior": [
            "cosine to the true embedding",
            "rank of the true picture, as a share",
            "R@1 of the concept",
        ],
        "pictures": [
            *("judge R@1", "judge R@1, drawn / real", "judge R@1, drawn / real, against en"),
            *("memorised, by judge's features", "memorised, by pixels"),
            *(
                "mean distance between pictures of one caption",
                "mean distance between pictures of one concept",
            ),
        ],
        "upsamplers": [
            *("upsampler-256: PSNR (dB)", "upsampler-256: distance in the judge's layers"),
            *("upsampler-256: judge R@1", "upsampler-256: error of a white border (levels of 255)"),
        ],
        "ablation": ["judge R@1", "mean distance between pictures of one caption"],
        "compositions": list(compositions.FIGURES.values()),
        "names": ["judge R@1"],
        "rerank": ["judge R@1", "Frechet distance, drawn / real"],
    }
    for section, listed in wanted.items():
        for name in listed:
            assert (section, name) in found
    languages = {figure.language for figure in whole.findings.figures if figure.name == "judge R@1"}
    assert languages == {"en", "ko", "de"}
    variants = {figure.variant for figure in whole.findings.figures if figure.section == "ablation"}
    assert variants >= {ablation.TRAINED, ablation.TEXT, ablation.PRIOR, ablation.TRUE, "guidance 3"}
    baselines = {figure.variant for figure in whole.findings.figures if figure.section == "prior"}
    assert baselines >= {"text embedding", "mean embedding", "another picture"}
    assert any(verdict.startswith("The prior has") for verdict in whole.findings.verdicts)
    assert {"contact-sheet", "upsampler-256", "upsampler-1024"} <= set(whole.findings.sheets)


def test_plain_prompts_come_first_and_styled_ones_beside_them(whole: Evaluation) -> None:
    drawn = [
        figure.variant
        for figure in whole.findings.figures
        if (figure.section, figure.name, figure.language) == ("pictures", "judge R@1", "en")
    ]
    assert drawn[:3] == ["drawn", "real", "style said"]
    ratios = {f.variant for f in whole.findings.figures if f.name == "judge R@1, drawn / real"}
    assert ratios == {"", "style said"}


def test_without_styles_plain_prompts_are_drawn_alone(tiny_bundle: Path, shapes: Path) -> None:
    only = (Section.PICTURES,)
    evaluation = Evaluation(settings(tiny_bundle, shapes, judge=str(tiny_bundle), only=only, style=False))
    steps = {label for label, *_ in evaluation.run()}
    assert not [label for label in steps if "style said" in label]
    assert {figure.variant for figure in evaluation.findings.figures} == {"drawn", "real", ""}


def test_compositions_have_their_controls(whole: Evaluation) -> None:
    found = [figure for figure in whole.findings.figures if figure.section == "compositions"]
    assert {figure.variant for figure in found} == {"drawn", "real", "wrong pair", "one thing alone"}
    assert "compositions" in whole.findings.sheets


def test_the_same_seed_finds_the_same(whole: Evaluation, tiny_bundle: Path, shapes: Path) -> None:
    again = Evaluation(settings(tiny_bundle, shapes, judge=str(tiny_bundle), only=(Section.PRIOR,)))
    list(again.run())
    first = [figure for figure in whole.findings.figures if figure.section == "prior"]
    assert again.findings.figures == first


def test_the_report_is_json_and_a_table_and_is_written_whole(whole: Evaluation, tmp_path: Path) -> None:
    files = write(whole, COMMAND, tmp_path / "out")
    found = json.loads((tmp_path / "out" / DOCUMENT).read_text())
    assert found == json.loads(json.dumps(document(whole, COMMAND)))
    assert (found["command"], found["seed"], found["confidence"]) == (COMMAND, 0, 0.95)
    assert set(found["seconds"]) == set(Section)
    assert {"value", "low", "high", "count", "interval"} <= set(found["figures"][0])
    text = (tmp_path / "out" / TABLE).read_text()
    assert text.strip() == table(whole, COMMAND).strip()
    for section in Section:
        assert f"## {section}" in text
    assert "Wilson" in text
    assert set(files) == {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {path.name for path in (tmp_path / "out" / "names").iterdir()} == {
        *("sheet-1.png", "form.csv", "key.json")
    }
    assert (tmp_path / "out" / "contact-sheet.png").stat().st_size > 1000


def test_the_bundles_own_clip_judges_with_a_warning(tiny_bundle: Path, shapes: Path) -> None:
    with pytest.warns(UnclipWarning, match="flatters"):
        evaluation = Evaluation(settings(tiny_bundle, shapes))
    assert not document(evaluation, COMMAND)["judge"]["independent"]
    Evaluation(settings(tiny_bundle, shapes, only=(Section.CLIP,)))  # no pictures, so no warning


def test_a_corpus_that_held_out_nothing_is_judged_by_what_was_trained_on(
    tiny_bundle: Path, shapes: Path
) -> None:
    evaluation = Evaluation(settings(tiny_bundle, shapes, only=(Section.PRIOR,)))
    evaluation.samples = {"train": evaluation.samples["train"]}
    list(evaluation.run())
    assert any("trained on" in verdict for verdict in evaluation.findings.verdicts)
    assert {figure.split for figure in evaluation.findings.figures} == {"train"}


def test_the_samples_are_of_the_splits_that_there_are(tiny_bundle: Path, shapes: Path) -> None:
    evaluation = Evaluation(settings(tiny_bundle, shapes, only=(Section.CLIP,)))
    there = {split.value for split in Split if len(Corpus(shapes, split))}
    assert set(evaluation.samples) == there


def test_a_part_that_the_bundle_cannot_do_is_skipped_and_said(
    tiny_bundle: Path, shapes: Path, tmp_path: Path
) -> None:
    parts = parts_of(Bundle.load(tiny_bundle), "upsampler-256", "upsampler-1024")
    save_bundle(tmp_path / "bare", name="bare", parts=parts, card="")
    only = (Section.UPSAMPLERS,)
    evaluation = Evaluation(settings(tmp_path / "bare", shapes, only=only, judge=str(tiny_bundle)))
    list(evaluation.run())
    assert "no upsamplers" in evaluation.findings.skipped["upsamplers"]
    assert "Skipped: this bundle" in table(evaluation, COMMAND)


def test_a_decoder_of_another_clip_is_refused(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    bundle.components["decoder"].config["embedding"] = 99
    with (
        pytest.raises(BundleError, match="train it with the same CLIP"),
        ablation.with_decoder(bundle, tiny_bundle / "decoder.safetensors"),
    ):
        pass


def test_an_interrupted_evaluation_leaves_no_report(tiny_bundle: Path, shapes: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    evaluation = Evaluation(settings(tiny_bundle, data, only=(Section.PICTURES,), judge=str(tiny_bundle)))
    work = evaluation.run()
    next(work)
    work.close()
    assert not [path for path in (data / "cache").iterdir() if path.name.startswith(".")]
    assert not evaluation.findings.figures


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": 1}, "captions is 1: choose 2 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"only": (Section.CLIP,), "text_decoder": Path("x")}, "--only ablation"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tiny_bundle: Path, shapes: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        settings(tiny_bundle, shapes, **changes)


def test_parts_are_named_in_any_order() -> None:
    assert sections(["prior", "clip"]) == (Section.CLIP, Section.PRIOR)
    with pytest.raises(InputError, match="unknown part 'clips': choose clip, prior"):
        sections(["clips"])
