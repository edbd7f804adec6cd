"""Promises of ADM's format: the released layout, whole and exact in both directions, and nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reference.guided import Network, Shapes, State, classifier_shapes, random_state, unet_shapes
from support.tensors import MetaWeights, error, shapes_of
from unclip.checkpoints import adm
from unclip.checkpoints.foreign import Conversion, Source
from unclip.checkpoints.formats import guess
from unclip.checkpoints.table import Table
from unclip.diffusion.schedule import ScheduleName
from unclip.errors import CheckpointError, InputError
from unclip.models.adm import ADM, CLASSIFIERS, PRESETS, ADMConfig, Classifier, ClassifierConfig
from unclip.native import unfilled

# three levels, attention at the two coarser ones, heads of 16 channels
UNET = {"channels": 32, "widths": (32, 32, 64), "blocks": 2, "attention": (2, 4)}
BASE = unet_shapes(inputs=3, classes=5, **UNET)
UPSAMPLER = unet_shapes(inputs=6, classes=5, **UNET)
CLASSIFIER = classifier_shapes(
    image_size=32, channels=32, widths=(64, 128, 128), blocks=1, attention=(2, 4), classes=5
)
FLAGS = {"image_size": "16", "num_head_channels": "16", "classifier_scale": "3"}
# Table 4 of 2105.05233 and its appendix, in millions
PUBLISHED_MILLIONS = {
    "adm-64": 296,
    "adm-128": 422,
    "adm-256": 554,
    "adm-512": 559,
    "adm-64-256": 312,
    "adm-128-512": 309,
}
PUBLISHED_CLASSIFIERS = {64: 65, 128: 43, 256: 54, 512: 54}


def saved(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.save(dict(state), path)
    return path


def converted(path: Path, **options: str) -> Conversion:
    source = Source(path)
    assert adm.FORMAT.looks_like(source)
    return adm.FORMAT.read(source, FLAGS | options)


def released(name: str) -> Shapes:
    config = PRESETS[name]
    return unet_shapes(
        inputs=3 if config.low_size is None else 6,
        channels=config.channels,
        widths=config.widths,
        blocks=config.blocks,
        attention=config.attention,
        classes=config.classes,
    )


def written(table: Table, model: torch.nn.Module) -> Shapes:
    return shapes_of(table.write(MetaWeights(shapes_of(model.state_dict()))))


@pytest.mark.parametrize("name", PRESETS)
def test_a_released_file_is_known_by_its_shapes_and_fits_whole(name: str) -> None:
    shapes = released(name)
    config, flags = adm.adm_config(MetaWeights(shapes), {})
    assert config == PRESETS[name]
    assert flags == adm.RELEASED[name]
    model = unfilled("adm", config)
    table = adm.table(model, by_head=flags.by_head)
    assert written(table, model) == shapes
    read = dict(table.read(MetaWeights(shapes), shapes_of(model.state_dict()), name))
    assert shapes_of(read) == shapes_of(model.state_dict())
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert round(millions) == PUBLISHED_MILLIONS.get(name, 553)


@pytest.mark.parametrize("size", CLASSIFIERS)
def test_a_released_classifier_is_known_by_its_shapes_and_fits_whole(size: int) -> None:
    config = CLASSIFIERS[size]
    shapes = classifier_shapes(
        image_size=size,
        channels=config.channels,
        widths=config.widths,
        blocks=config.blocks,
        attention=config.attention,
        classes=config.classes,
    )
    assert adm.classifier_config(MetaWeights(shapes)) == config
    model = unfilled("adm-classifier", config)
    assert written(adm.table(model, by_head=True), model) == shapes
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert round(millions) == PUBLISHED_CLASSIFIERS[size]


@pytest.mark.parametrize("new_order", [False, True])
def test_a_model_computes_what_the_published_network_does(tmp_path: Path, new_order: bool) -> None:
    state = random_state(BASE)
    order = str(new_order).lower()
    part = converted(saved(tmp_path / "a.pt", state), use_new_attention_order=order).parts["adm"]
    model = part.source
    assert isinstance(model, ADM)
    x, label, classes = torch.randn(2, 3, 16, 16), torch.tensor([0.0, 731.0]), torch.tensor([4, 1])
    expected = Network(state, blocks=2, wide=16, by_head=not new_order).adm(x, label, classes)
    assert error(model(x, label, classes), expected) < 1e-4
    wrong = Network(state, blocks=2, wide=16, by_head=new_order).adm(x, label, classes)
    assert error(model(x, label, classes), wrong) > 1e-3
    back = adm.table(model, by_head=not new_order).write(model.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_heads_can_be_a_number_of_their_own(tmp_path: Path) -> None:
    state = random_state(unet_shapes(inputs=3, classes=None, **UNET))
    path = saved(tmp_path / "a.pt", state)
    part = adm.FORMAT.read(Source(path), {"image_size": "16", "num_heads": "4"}).parts["adm"]
    x, label = torch.randn(1, 3, 16, 16), torch.tensor([90.0])
    assert isinstance(part.source, ADM)
    expected = Network(state, blocks=2, heads=4).adm(x, label)
    assert error(part.source(x, label), expected) < 1e-4


def test_an_upsampler_computes_what_the_published_network_does(tmp_path: Path) -> None:
    state = random_state(UPSAMPLER, seed=1)
    base, upsampler = saved(tmp_path / "a.pt", random_state(BASE)), saved(tmp_path / "b.pth", state)
    options = {"upsampler": str(upsampler), "large_size": "32", "upsampler_num_head_channels": "16"}
    part = converted(base, **options).parts["upsampler-32"]
    model = part.source
    assert isinstance(model, ADM)
    assert (model.config.low_size, model.config.image_size) == (16, 32)
    x, label, classes = torch.randn(1, 3, 32, 32), torch.tensor([12.0]), torch.tensor([2])
    low = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = Network(state, blocks=2, wide=16).adm(x, label, classes, low)
    assert error(model(x, label, classes, low), expected) < 1e-4


def test_a_classifier_computes_what_the_published_network_does(tmp_path: Path) -> None:
    state = random_state(CLASSIFIER, seed=2)
    base = saved(tmp_path / "a.pt", random_state(BASE))
    classifier = saved(tmp_path / "b.pth", state)
    conversion = converted(base, image_size="32", classifier=str(classifier))
    model = conversion.parts["classifier"].source
    assert isinstance(model, Classifier)
    assert model.config == ClassifierConfig(32, 32, (64, 128, 128), 1, (2, 4), 5)
    x, label = torch.randn(2, 3, 32, 32), torch.tensor([3.0, 999.0])
    expected = Network(state, blocks=1, wide=64).classifier(x, label)
    assert error(model(x, label), expected) < 1e-4
    chosen = model.log_probability(x, label, torch.tensor([1, 4]))
    torch.testing.assert_close(chosen, expected.log_softmax(1)[[0, 1], [1, 4]])
    sampling = conversion.parts["adm"].sampling
    assert sampling is not None
    assert sampling.guidance == 3


def test_a_folder_is_sorted_by_what_its_files_hold(tmp_path: Path) -> None:
    saved(tmp_path / "1.pt", random_state(CLASSIFIER))
    saved(tmp_path / "2.pt", random_state(BASE))
    saved(tmp_path / "3.pt", {"something": torch.ones(2)})
    assert set(converted(tmp_path, image_size="32").parts) == {"adm", "classifier"}
    saved(tmp_path / "4.pt", random_state(BASE))
    with pytest.raises(CheckpointError, match="both of the kind adm"):
        converted(tmp_path, image_size="32")


def test_flags_make_the_diffusion(tmp_path: Path) -> None:
    part = converted(saved(tmp_path / "a.pt", random_state(BASE)), noise_schedule="cosine").parts["adm"]
    assert part.diffusion is not None
    assert (part.diffusion.schedule, part.diffusion.learned_range) == (ScheduleName.COSINE, True)
    assert part.sampling is not None
    assert (part.sampling.sampler, part.sampling.steps) == ("ancestral", 250)
    assert part.sampling.guidance == 0  # no classifier


@pytest.mark.parametrize("form", ["lines", "list", "numbered"])
def test_classes_can_be_named(tmp_path: Path, form: str) -> None:
    names = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]
    text = {
        "lines": "\n".join(names) + "\n",
        "list": json.dumps(names),
        "numbered": json.dumps({str(i): names[i] for i in (3, 1, 2, 0, 4)}),
    }[form]
    (tmp_path / "labels").write_text(text)
    path = saved(tmp_path / "a.pt", random_state(BASE))
    model = converted(path, labels=str(tmp_path / "labels")).parts["adm"].source
    assert isinstance(model, ADM)
    assert model.config.labels == tuple(names)
    (tmp_path / "labels").write_text("one\ntwo")
    with pytest.raises(InputError, match="2 names for 5 classes"):
        converted(path, labels=str(tmp_path / "labels"))


def test_a_conversion_says_which_flags_it_assumed(tmp_path: Path) -> None:
    classifier = saved(tmp_path / "b.pth", random_state(CLASSIFIER))
    path = saved(tmp_path / "a.pt", random_state(BASE))
    options = {"image_size": "32", "num_head_channels": "16"}
    note, unnamed = adm.FORMAT.read(Source(path), options).notes
    assert note.startswith(f"{path} is taken to have been trained with noise_schedule=linear, ")
    assert "use_new_attention_order=false, and its sizes are of no release" in note
    assert "labels=FILE" in unnamed
    guided, _ = adm.FORMAT.read(Source(path), options | {"classifier": str(classifier)}).notes
    assert "classifier_scale=1, " in guided
    told = {"noise_schedule": "linear", "use_new_attention_order": "true"}
    assert adm.FORMAT.read(Source(path), options | told).notes == (unnamed,)
    upsampler = saved(tmp_path / "c.pth", random_state(UPSAMPLER))
    larger = {"upsampler": str(upsampler), "large_size": "64", "upsampler_num_heads": "4"}
    notes = adm.FORMAT.read(Source(path), options | told | larger).notes
    assert "trained with upsampler_noise_schedule=linear, upsampler_use_new_attention_order=false" in notes[0]
    order = {f"upsampler_{name}": text for name, text in told.items()}
    conversion = adm.FORMAT.read(Source(path), options | told | larger | order)
    assert conversion.notes == (unnamed,)


@pytest.mark.parametrize("name", PRESETS)
def test_a_release_says_what_its_sizes_stand_for(name: str) -> None:
    weights = MetaWeights(released(name))
    config, flags = adm.adm_config(weights, {})
    (note,) = adm.assumed(weights, config, flags, {})
    assert f"as in the released {name}, whose sizes it has" in note
    assert f"noise_schedule={flags.schedule}" in note


class TestStrictness:
    def refused(self, path: Path, state: State, **options: str) -> str:
        with pytest.raises(CheckpointError) as caught:
            adm.FORMAT.read(Source(saved(path / "a.pt", state)), FLAGS | options)
        return str(caught.value)

    def test_a_tensor_too_many_is_named(self, tmp_path: Path) -> None:
        assert "unknown extra.weight" in self.refused(tmp_path, random_state(BASE | {"extra.weight": (2, 2)}))

    def test_a_tensor_too_few_is_named(self, tmp_path: Path) -> None:
        state = random_state(BASE)
        del state["middle_block.1.norm.bias"]
        assert "missing unet.middle.0.attention.norm.bias" in self.refused(tmp_path, state)

    def test_a_mis_shaped_tensor_is_named(self, tmp_path: Path) -> None:
        state = random_state(BASE | {"output_blocks.3.0.in_layers.0.weight": (7,)})
        assert "up.4.residual.norm_in.weight is [7]" in self.refused(tmp_path, state)

    def test_what_shapes_do_not_tell_must_be_said(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no released ADM, so say image_size"):
            adm.FORMAT.read(Source(saved(tmp_path / "a.pt", random_state(BASE))))

    def test_a_classifier_alone_draws_nothing(self, tmp_path: Path) -> None:
        assert "no model that draws" in self.refused(tmp_path, random_state(CLASSIFIER))

    def test_fixed_variances_are_refused(self, tmp_path: Path) -> None:
        state = random_state(unet_shapes(inputs=3, outputs=3, **UNET))
        assert "learn_sigma" in self.refused(tmp_path, state)

    def test_a_wrong_value_of_a_flag_is_refused(self, tmp_path: Path) -> None:
        assert "use_new_attention_order is 'maybe'" in self.refused(
            tmp_path, random_state(BASE), use_new_attention_order="maybe"
        )

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("num_heads", "5", "32 channels of attention do not divide into num_heads=5"),
            ("num_heads", "0", "num_heads is '0': choose a whole number from 1"),
            ("num_head_channels", "48", "do not divide into heads of num_head_channels=48"),
            ("noise_schedule", "squaredcos_cap_v2", "choose linear or cosine .*name for cosine"),
            ("noise_schedule", "geometric", "noise_schedule is 'geometric': choose linear or cosine"),
            ("image_size", "18", "18 px does not halve 2 times, as its 3 levels do.* a multiple of 4"),
            ("image_size", "-16", "image_size is '-16'"),
            ("classifier_scale", "nan", "classifier_scale is 'nan': choose a finite number"),
            ("classifier_scale", "much", "classifier_scale is 'much'"),
        ],
    )
    def test_a_flag_that_cannot_be_is_named(
        self, tmp_path: Path, option: str, value: str, message: str
    ) -> None:
        flags = {"image_size": "16"} if option == "num_heads" else FLAGS
        path = saved(tmp_path / "a.pt", random_state(BASE))
        with pytest.raises(CheckpointError, match=message):
            adm.FORMAT.read(Source(path), flags | {option: value})

    def test_heads_that_do_not_fit_without_flags_are_named(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pt", random_state(BASE))
        with pytest.raises(CheckpointError, match="num_head_channels=64: say what its flags were"):
            adm.FORMAT.read(Source(path), {"image_size": "16"})

    @pytest.mark.parametrize(
        ("pool", "shapes"),
        [
            ("adaptive", {"out.0.weight": (128,), "out.3.weight": (5, 128, 1, 1)}),
            ("spatial", {"out.0.weight": (2048, 900), "out.2.weight": (5, 2048)}),
            ("spatial_v2", {"out.0.weight": (2048, 900), "out.1.weight": (2048,), "out.3.weight": (5, 2048)}),
        ],
    )
    def test_a_classifier_that_pools_otherwise_is_named(
        self, tmp_path: Path, pool: str, shapes: Shapes
    ) -> None:
        """By the layers of EncoderUNetModel in guided-diffusion's unet.py."""
        body = {name: shape for name, shape in CLASSIFIER.items() if not name.startswith("out.")}
        pooled = saved(tmp_path / "c.pth", random_state(body | shapes))
        message = f"a classifier trained with --classifier_pool {pool}: only those that pool by attention"
        with pytest.raises(CheckpointError, match=message):
            guess(Source(pooled))[0].read(Source(pooled))
        assert message in self.refused(tmp_path, random_state(BASE), classifier=str(pooled))

    def test_several_sets_of_weights_in_one_file_are_named(self, tmp_path: Path) -> None:
        state = random_state(BASE)
        torch.save({"ema": state, "model": state, "step": 3}, tmp_path / "a.pt")
        for read in (lambda source: guess(source), lambda source: adm.FORMAT.read(source, FLAGS)):
            with pytest.raises(CheckpointError, match="lie inside 'ema' and 'model', not at the top"):
                read(Source(tmp_path / "a.pt"))

    def test_a_classifier_of_another_size_is_refused(self, tmp_path: Path) -> None:
        classifier = saved(tmp_path / "b.pt", random_state(CLASSIFIER))
        message = self.refused(tmp_path / "..", random_state(BASE), classifier=str(classifier))
        assert "classifies 32 px and the model draws 16 px" in message

    def test_other_networks_do_not_look_like_one(self, tmp_path: Path) -> None:
        glide = random_state(unet_shapes(inputs=3, context=8, **UNET))
        assert not adm.FORMAT.looks_like(Source(saved(tmp_path / "a.pt", glide)))
        assert not adm.FORMAT.looks_like(Source(saved(tmp_path / "b.pt", {"visual.proj": torch.ones(2)})))


def test_a_model_refuses_conditions_that_it_does_not_have() -> None:
    config = ADMConfig(16, 32, (32, 64), 1, (), classes=3)
    model = ADM(config)
    x, label = torch.zeros(1, 3, 16, 16), torch.zeros(1)
    with pytest.raises(InputError, match="a class for each picture"):
        model(x, label)
    with pytest.raises(InputError, match="no small picture"):
        model(x, label, torch.zeros(1, dtype=torch.int64), x)
    with pytest.raises(InputError, match="2 labels for 3 classes"):
        ADMConfig(16, 32, (32, 64), 1, (), classes=3, labels=("a", "b"))
