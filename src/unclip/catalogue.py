"""Models that have a name: bundles on disk, and those that others have published, and where their files lie.

Sizes are counted on the architectures (the tests count again); a SHA-256 stands here only where the address
states it. The Hub states one for every large file, which `checkpoints.download` then checks.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from unclip.errors import InputError
from unclip.runtime import data_folder

MOST_SUGGESTED = 3
MANIFEST = "bundle.json"  # makes a folder a bundle
KNOWS_PHOTOGRAPHS = "openclip-vit-b-32-datacomp"  # a CLIP that is small and good at them
SHIPPED = Path(__file__).parent / "bundles"


class Ability(StrEnum):
    """A thing that can be done with a model."""

    DRAW = "draws from text"
    VARY = "varies pictures"
    INPAINT = "redraws parts of pictures"
    CLASSES = "draws classes of pictures"
    UNCONDITIONAL = "draws without being told what"
    COMPARE = "compares pictures and texts"
    TOKENS = "codes pictures as tokens"


@dataclass(frozen=True)
class WebFile:
    """A file with an address of its own.

    Attributes:
        url: the address.
        path: what it is called here.
        sha256: where the address states it; None is unknown.
    """

    url: str
    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository on the Hugging Face Hub.

    Attributes:
        repository: "owner/name".
        patterns: of paths in it, each of which finds a file or more, by `fnmatch`'s rules. Where a folder has
            weights as safetensors and as a pickle, the pickle is left.
        folder: where they go here, below the model's own folder.
        revision: branch, tag or commit.
    """

    repository: str
    patterns: tuple[str, ...]
    folder: str = ""
    revision: str = "main"


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: what it is pulled and loaded by.
        family: of the bundle that it becomes, one of `manifest.FAMILIES`.
        format: that its files have, a name in `checkpoints.formats`.
        abilities: what it can do.
        parameters: how many, by component.
        licence: of the weights.
        sources: its files.
        page: where its makers describe it.
        opens: the one file to convert; empty where all files together are.
    """

    name: str
    family: str
    format: str
    abilities: tuple[Ability, ...]
    parameters: Mapping[str, int]
    licence: str
    sources: tuple[WebFile | HubFiles, ...]
    page: str
    opens: str = ""

    @property
    def origin(self) -> str:
        """Where the files come from, in a few words: a repository, or the host of the addresses."""
        first = self.sources[0]
        return first.repository if isinstance(first, HubFiles) else first.url.split("/")[2]

    @property
    def bundle_folder(self) -> Path:
        """Where `unclip pull` puts the bundle."""
        return data_folder() / "bundles" / self.name

    @property
    def download_folder(self) -> Path:
        """Where the published files lie until they are converted, and where one fetched by hand is found."""
        return data_folder() / "downloads" / self.name


def available_bundles() -> dict[str, Path]:
    """Bundles that can be loaded by name: the shipped ones and those in the user's data folder."""
    found: dict[str, Path] = {}
    for parent in (SHIPPED, data_folder() / "bundles"):
        if parent.is_dir():
            for folder in sorted(parent.iterdir()):
                if (folder / MANIFEST).is_file():
                    found.setdefault(folder.name, folder)
    return found


def find_published(name: str) -> Published:
    """A published model by name. Raises InputError that suggests names like it."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    near = difflib.get_close_matches(name.lower(), PUBLISHED, n=MOST_SUGGESTED, cutoff=0.4)
    near = near or [known for known in PUBLISHED if name.lower() in known][:MOST_SUGGESTED]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"no published model is called {name!r}: {hint}`unclip models` lists all {len(PUBLISHED)}"
    )


# --- CLIP ---

_OPENAI_CLIP = "https://openaipublic.azureedge.net/clip/models"
_CLIP_PARAMETERS = {
    "vit-b-32": 151_277_313,
    "vit-b-16": 149_620_737,
    "vit-l-14": 427_616_513,
    "vit-l-14-336": 427_944_193,
    "rn50": 102_007_137,
    "rn101": 119_688_033,
    "rn50x4": 178_300_601,
    "rn50x16": 290_979_217,
    "rn50x64": 623_258_305,
}
# The name of the file and its SHA-256, which is a part of its address: clip.py of openai/CLIP.
_CLIP_FILES = {
    "vit-b-32": ("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "vit-b-16": ("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "vit-l-14": ("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "vit-l-14-336": ("ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
    "rn50": ("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "rn101": ("RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "rn50x4": ("RN50x4.pt", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "rn50x16": ("RN50x16.pt", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "rn50x64": ("RN50x64.pt", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
}
_OPEN_CLIP_FILES = ("open_clip_config.json", "open_clip*model.*")


def _openai_clip(name: str) -> Published:
    file, digest = _CLIP_FILES[name]
    return Published(
        name=f"clip-{name}",
        family="clip",
        format="clip-openai",
        abilities=(Ability.COMPARE,),
        parameters={"clip": _CLIP_PARAMETERS[name]},
        licence="MIT",
        sources=(WebFile(f"{_OPENAI_CLIP}/{digest}/{file}", file, digest),),
        page="https://github.com/openai/CLIP",
        opens=file,
    )


def _open_clip(name: str, repository: str, like: str) -> Published:
    return Published(
        name=name,
        family="clip",
        format="clip-open",
        abilities=(Ability.COMPARE,),
        parameters={"clip": _CLIP_PARAMETERS[like]},
        licence="MIT",
        sources=(HubFiles(repository, _OPEN_CLIP_FILES),),
        page=f"https://huggingface.co/{repository}",
    )


# --- Karlo ---

_DIFFUSERS_FILES = ("model_index.json", "*/*.json", "tokenizer/merges.txt", "*/*model.*")
_PRIOR_PARAMETERS = 1_022_030_080
_KARLO_NETWORKS = {
    "decoder": 885_439_686 + 7_878_400,  # with the projections in front of it
    "upsampler-256": 691_579_523,
    "upsampler-256-last": 691_579_523,
}


def _karlo(name: str, repository: str, ability: Ability, parameters: Mapping[str, int]) -> Published:
    return Published(
        name=name,
        family="unclip",
        format="karlo-diffusers",
        abilities=(ability,),
        parameters={**parameters, **_KARLO_NETWORKS},
        licence="CreativeML OpenRAIL-M",
        sources=(HubFiles(repository, _DIFFUSERS_FILES),),
        page=f"https://huggingface.co/{repository}",
    )


# The same networks as Kakao Brain's own files; kakaobrain/karlo, setup.sh.
_KARLO_ALPHA = "https://arena.kakaocdn.net/brainrepo/models/karlo-public/v1.0.0.alpha"
_KARLO_FILES = {
    "prior-ckpt-step=01000000-of-01000000.ckpt": (
        "85626483eaca9f581e2a78d31ff905ca/prior-ckpt-step%3D01000000-of-01000000.ckpt"
    ),
    "decoder-ckpt-step=01000000-of-01000000.ckpt": (
        "efdf6206d8ed593961593dc029a8affa/decoder-ckpt-step%3D01000000-of-01000000.ckpt"
    ),
    "improved-sr-ckpt-step=1.2M.ckpt": "4226b831ae0279020d134281f3c31590/improved-sr-ckpt-step%3D1.2M.ckpt",
    "ViT-L-14_stats.th": "0b62380a75e56f073e2844ab5199153d/ViT-L-14_stats.th",
}


def _karlo_original() -> Published:
    clip = _openai_clip("vit-l-14")
    return Published(
        name="karlo-original",
        family="unclip",
        format="karlo-original",
        abilities=(Ability.DRAW, Ability.VARY),
        parameters={**clip.parameters, "prior": _PRIOR_PARAMETERS, **_KARLO_NETWORKS},
        licence="CreativeML OpenRAIL-M",
        sources=(
            *(WebFile(f"{_KARLO_ALPHA}/{address}", path) for path, address in _KARLO_FILES.items()),
            *clip.sources,
        ),
        page="https://github.com/kakaobrain/karlo",
    )


# --- GLIDE: openai/glide-text2im, glide_text2im/download.py ---

_GLIDE = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
_GPT2 = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
_GLIDE_PARAMETERS = {
    "base.pt": 385_030_726,
    "base_inpaint.pt": 385_037_638,
    "upsample.pt": 398_361_286,
    "upsample_inpaint.pt": 398_368_198,
}
_NOISED_CLIP_PARAMETERS = 158_138_624
_NOISED_CLIP_FILES = ("clip_image_enc.pt", "clip_text_enc.pt")
# GPT-2's vocabulary, which captions are read with; the hashes are those that openai/tiktoken states.
_GPT2_FILES = (
    WebFile(
        f"{_GPT2}/encoder.json",
        "encoder.json",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    WebFile(
        f"{_GPT2}/vocab.bpe",
        "vocab.bpe",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
)


def _glide(
    name: str, abilities: tuple[Ability, ...], files: Mapping[str, str], noised_clip: bool = False
) -> Published:
    """`files` are those that draw, by the component that each becomes."""
    parameters = {component: _GLIDE_PARAMETERS[file] for component, file in files.items()}
    names = [*files.values()]
    if noised_clip:
        parameters["noised-clip"] = _NOISED_CLIP_PARAMETERS
        names += _NOISED_CLIP_FILES
    return Published(
        name=name,
        family="glide",
        format="glide",
        abilities=abilities,
        parameters=parameters,
        licence="MIT",
        sources=(*(WebFile(f"{_GLIDE}/{file}", file) for file in names), *_GPT2_FILES),
        page="https://github.com/openai/glide-text2im",
    )


# --- ADM: openai/guided-diffusion, README.md ---

_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_ADM_PARAMETERS = {
    "64x64_diffusion.pt": 295_904_454,
    "128x128_diffusion.pt": 421_529_606,
    "256x256_diffusion.pt": 553_838_086,
    "256x256_diffusion_uncond.pt": 552_814_086,
    "512x512_diffusion.pt": 558_997_638,
    "64_256_upsampler.pt": 311_795_910,
    "128_512_upsampler.pt": 308_835_270,
    "64x64_classifier.pt": 65_438_568,
    "128x128_classifier.pt": 42_568_040,
    "256x256_classifier.pt": 54_096_360,
    "512x512_classifier.pt": 54_448_360,
    "lsun_bedroom.pt": 552_814_086,
    "lsun_cat.pt": 552_814_086,
    "lsun_horse.pt": 552_814_086,
}
_GUIDED = (Ability.CLASSES,)


def _adm(name: str, abilities: tuple[Ability, ...], **files: str) -> Published:
    return Published(
        name=name,
        family="adm",
        format="adm",
        abilities=abilities,
        parameters={component: _ADM_PARAMETERS[file] for component, file in files.items()},
        licence="MIT",
        sources=tuple(WebFile(f"{_ADM}/{file}", file) for file in files.values()),
        page="https://github.com/openai/guided-diffusion",
    )


# --- DALL-E 1's codec, VQGAN, DALL-E mini ---

_DVAE = "https://cdn.openai.com/dall-e"
_HEIBOX = "https://heibox.uni-heidelberg.de/f"
_VQGAN_PARAMETERS = {1024: 72_141_699, 16_384: 76_073_859}
_DETOKENIZER_PARAMETERS = 46_709_891  # the decoder's half of the second


def _vqgan(codes: int, weights: str, config: str) -> Published:
    name = f"vqgan-f16-{codes}"
    return Published(
        name=name,
        family="codec",
        format="vqgan-taming",
        abilities=(Ability.TOKENS,),
        parameters={"codec": _VQGAN_PARAMETERS[codes]},
        licence="MIT",
        sources=(
            WebFile(f"{_HEIBOX}/{weights}/?dl=1", f"{name}.ckpt"),
            WebFile(f"{_HEIBOX}/{config}/?dl=1", f"{name}.yaml"),
        ),
        page="https://github.com/CompVis/taming-transformers",
        opens=f"{name}.ckpt",
    )


def _dalle_mini(name: str, suffix: str, parameters: int) -> Published:
    """min-dalle's files, which are those of dalle-mini's last training runs."""
    halves = (f"encoder{suffix}.pt", f"decoder{suffix}.pt")
    return Published(
        name=name,
        family="dalle-mini",
        format="dalle-mini",
        abilities=(Ability.DRAW,),
        parameters={"transformer": parameters, "codec": _DETOKENIZER_PARAMETERS},
        licence="Apache-2.0",
        sources=(
            HubFiles(
                "kuprel/min-dalle", (*halves, f"vocab{suffix}.json", f"merges{suffix}.txt", "detoker.pt")
            ),
        ),
        page="https://github.com/kuprel/min-dalle",
    )


_ALL = (
    *(_openai_clip(name) for name in _CLIP_FILES),
    _open_clip("openclip-vit-b-32-laion2b", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "vit-b-32"),
    _open_clip("openclip-vit-b-16-laion2b", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "vit-b-16"),
    _open_clip("openclip-vit-l-14-laion2b", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "vit-l-14"),
    _open_clip("openclip-vit-b-32-datacomp", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", "vit-b-32"),
    _open_clip("openclip-vit-b-16-datacomp", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "vit-b-16"),
    _open_clip("openclip-vit-l-14-datacomp", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", "vit-l-14"),
    _karlo(
        "karlo",
        "kakaobrain/karlo-v1-alpha",
        Ability.DRAW,
        {"clip": 123_650_304, "prior": _PRIOR_PARAMETERS},
    ),
    _karlo(
        "karlo-variations",
        "kakaobrain/karlo-v1-alpha-image-variations",
        Ability.VARY,
        {"clip": _CLIP_PARAMETERS["vit-l-14"]},
    ),
    _karlo_original(),
    _glide("glide", (Ability.DRAW,), {"glide": "base.pt", "upsampler-256": "upsample.pt"}, noised_clip=True),
    _glide(
        "glide-inpaint",
        (Ability.DRAW, Ability.INPAINT),
        {"glide": "base_inpaint.pt", "upsampler-256": "upsample_inpaint.pt"},
    ),
    _adm("adm-64", _GUIDED, adm="64x64_diffusion.pt", classifier="64x64_classifier.pt"),
    _adm("adm-128", _GUIDED, adm="128x128_diffusion.pt", classifier="128x128_classifier.pt"),
    _adm("adm-256", _GUIDED, adm="256x256_diffusion.pt", classifier="256x256_classifier.pt"),
    _adm("adm-512", _GUIDED, adm="512x512_diffusion.pt", classifier="512x512_classifier.pt"),
    _adm(
        "adm-64-256",
        _GUIDED,
        **{
            "adm": "64x64_diffusion.pt",
            "classifier": "64x64_classifier.pt",
            "upsampler-256": "64_256_upsampler.pt",
        },
    ),
    _adm(
        "adm-128-512",
        _GUIDED,
        **{
            "adm": "128x128_diffusion.pt",
            "classifier": "128x128_classifier.pt",
            "upsampler-512": "128_512_upsampler.pt",
        },
    ),
    _adm("adm-256-unconditional", (Ability.UNCONDITIONAL,), adm="256x256_diffusion_uncond.pt"),
    _adm("adm-lsun-bedroom", (Ability.UNCONDITIONAL,), adm="lsun_bedroom.pt"),
    _adm("adm-lsun-cat", (Ability.UNCONDITIONAL,), adm="lsun_cat.pt"),
    _adm("adm-lsun-horse", (Ability.UNCONDITIONAL,), adm="lsun_horse.pt"),
    Published(
        name="dvae",
        family="codec",
        format="dvae-openai",
        abilities=(Ability.TOKENS,),
        parameters={"codec": 97_616_006},
        licence="MIT (modified)",
        sources=tuple(WebFile(f"{_DVAE}/{file}", file) for file in ("encoder.pkl", "decoder.pkl")),
        page="https://github.com/openai/DALL-E",
    ),
    _vqgan(1024, "140747ba53464f49b476", "6ecf2af6c658432c8298"),
    _vqgan(16_384, "867b05fc8c4841768640", "274fb24ed38341bfa753"),
    _dalle_mini("dalle-mini", "_mini", 437_962_720),
    _dalle_mini("dalle-mega", "", 2_587_967_488),
)
PUBLISHED: dict[str, Published] = {model.name: model for model in _ALL}
