from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files, fuse
from cliper.config import Arm, Config
from cliper.errors import DataError, FeatureError
from cliper.layout import locate

GOLDEN = toy.SHARED / "golden/cliper_fusion/fusion.npz"
SA = Arm(d=4, image="bridge", text="bridge", prompts="as_described", fusion="sa", temperature=0.5)


def f32(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def test_similarity_is_the_cosine_and_zero_for_a_zero_vector() -> None:
    text = f32([[[3, 4], [0, 0], [-4, 3]]])
    assert fuse.cosine_similarities(text, f32([[6, 8]])) == pytest.approx(f32([[1, 0, 0]]))
    assert (fuse.cosine_similarities(text, f32([[0, 0]])) == 0).all()


def test_weights_are_the_softmax_of_equation_2() -> None:
    # similarities 1 and 0 at temperature 0.5: e^2 / (e^2 + 1)
    weights = fuse.similarity_weights(f32([[1, 0]]), temperature=0.5)
    assert weights == pytest.approx(f32([[math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)]]))


def test_a_small_temperature_neither_overflows_nor_divides_by_zero() -> None:
    weights = fuse.similarity_weights(f32([[1, -1, 1]]), temperature=1e-4)
    assert weights.tolist() == [[0.5, 0, 0.5]]


def test_fusions_follow_equation_3() -> None:
    text = f32([[[1, 2], [10, 20]], [[3, 4], [30, 40]]])
    assert fuse.fuse_sum(text).tolist() == [[11, 22], [33, 44]]
    assert fuse.fuse_concat(text).tolist() == [[1, 2, 10, 20], [3, 4, 30, 40]]
    assert fuse.fuse_weighted(text, f32([[1, 0], [0.5, 0.5]])).tolist() == [[1, 2], [16.5, 22]]


def test_an_item_without_an_image_gets_uniform_weights() -> None:
    text, image = f32(np.eye(4)[None].repeat(2, axis=0)), f32([[1, 0, 0, 0], [1, 0, 0, 0]])
    _, weights = fuse.weigh(text, image, np.array([False, True]), SA)
    assert weights[0, 0] > 0.5
    assert weights[1].tolist() == [0.25] * 4


def test_views_in_another_space_than_the_image_have_no_similarity() -> None:
    arm = Arm(d=4, image="lite0", text="minilm", prompts="joined_fields", fusion="concat")
    similarities, weights = fuse.weigh(f32(np.ones((2, 1, 3))), f32(np.ones((2, 5))), np.zeros(2, bool), arm)
    assert similarities is None
    assert weights.tolist() == [[1.0], [1.0]]


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared")
@pytest.mark.parametrize(
    ("name", "tau"), [("Attention_0.1", 0.1), ("Attention_0.2", 0.2), ("Concat", None), ("Sum", None)]
)
def test_golden_fusion_equals_the_released_codes(name: str, tau: float | None) -> None:
    golden = np.load(GOLDEN)
    text, image = golden["text_views"].transpose(1, 0, 2), golden["image"]
    weights = fuse.similarity_weights(fuse.cosine_similarities(text, image), temperature=tau or 1)
    fused = fuse.fuse(text, weights, {"Concat": "concat", "Sum": "sum"}.get(name, "sa"))
    np.testing.assert_allclose(fused, golden[name], atol=5e-6)


def write_embeddings(config: object, text: dict[str, np.ndarray], image: np.ndarray, missing: list[bool]) -> None:
    root = config.root  # type: ignore[attr-defined]
    n_items = len(image)
    for view, vectors in text.items():
        table = pl.DataFrame(
            {
                "item": range(n_items),
                "view": [view] * n_items,
                "embedding": vectors,
                "n_tokens": [3] * n_items,
                "n_chunks": [1] * n_items,
                "truncated": [False] * n_items,
                "is_missing": missing,
            }
        )
        path = locate(root, "text_embeddings", dataset="toy", encoder="bridge", prompts="two", view=view)
        files.write_table(path, "text_embeddings", table)
    images = pl.DataFrame({"item": range(n_items), "embedding": image, "is_fallback": [False] * (n_items - 1) + [True]})
    files.write_table(locate(root, "image_embeddings", dataset="toy", encoder="bridge"), "image_embeddings", images)


@pytest.fixture
def two_views(workdir: Path) -> object:
    view = {"fields": ["title"], "prompt": "___", "missing": "-"}
    arm = {"d": 4, "image": "bridge", "text": "bridge", "prompts": "two", "fusion": "sa", "temperature": 0.5}
    return toy.settings(**toy.dataset(workdir), prompts={"two": {"b": view, "a": view}}, arms={"cliper": arm})


def test_the_stage_keeps_the_sets_order_and_the_flags(two_views: object) -> None:
    text = {"a": f32([[0, 1], [0, 1], [0, 1]]), "b": f32([[1, 0], [1, 0], [1, 0]])}
    write_embeddings(two_views, text, f32([[1, 0], [0, 1], [1, 0]]), [False, True, False])
    fuse.run(two_views, dataset="toy", arm="cliper")  # type: ignore[arg-type]
    features = files.read_table(Path("results/toy/fuse/toy/cliper/features.parquet"), "features")
    near, far = math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)
    assert features["text"].to_numpy() == pytest.approx(f32([[near, far], [far, near], [0.5, 0.5]]))
    assert features["image_is_filled"].to_list() == [False, False, True]
    assert features["text_is_filled"].to_list() == [False, True, False]
    weights = files.read_table(Path("results/toy/fuse/toy/cliper/view_weights.parquet"), "view_weights")
    assert weights["view"].to_list() == ["a", "b"] * 3
    assert weights["weight"].to_list() == pytest.approx([far, near, near, far, 0.5, 0.5])


def test_a_broken_vector_is_named_by_its_item(two_views: object) -> None:
    text = {"a": f32([[0, 1], [0, math.nan]]), "b": f32([[1, 0], [1, 0]])}
    write_embeddings(two_views, text, f32([[1, 0], [0, 1]]), [False, False])
    with pytest.raises(FeatureError, match="text embeddings of toy: item 1 has values that are not finite"):
        fuse.run(two_views, dataset="toy", arm="cliper")  # type: ignore[arg-type]


GIVEN_IMAGE = np.array([[1, 2, 3], [0, 0, 0], [4, 5, 6]], dtype=np.float64)
GIVEN_TEXT = f32([[1, 0], [0, 1], [0.5, 0]])


def write_given(image: object = GIVEN_IMAGE, text: object = GIVEN_TEXT) -> Config:
    """Three items without metadata, and features for the arm cliper, which names encoders all the same."""
    given = {"cliper": {"image": "own/image_feat.npy", "text": "own/text_feat.npy"}}
    source = {"kind": "mmrec", "inter": "x.inter", "mirrors": ["unused"], "features": given}
    config = toy.settings(name="toy", run={"datasets": ["toy"]}, datasets={"toy": {"title": "Toy", "source": source}})
    items = pl.DataFrame({"item": range(3), "categories": [None] * 3}).with_columns(
        pl.lit(None).alias(name) for name in ("asin", "title", "brand", "description", "image_url")
    )
    files.write_table(locate(config.root, "items", dataset="toy"), "items", items)
    for file, rows in (("own/image_feat.npy", image), ("own/text_feat.npy", text)):
        path = locate(config.root, "raw", dataset="toy", file=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        elif rows is not None:
            np.save(path, rows, allow_pickle=True)  # type: ignore[arg-type]
    return config


def test_given_features_are_taken_as_they_are_and_a_row_of_zeros_is_flagged(workdir: Path) -> None:
    fuse.run(write_given(), dataset="toy", arm="cliper")
    features = files.read_table(Path("results/toy/fuse/toy/cliper/features.parquet"), "features")
    assert features["item"].to_list() == [0, 1, 2]
    assert (features["image"].to_numpy() == GIVEN_IMAGE).all()
    assert features["image"].to_numpy().dtype == np.float32
    assert (features["text"].to_numpy() == GIVEN_TEXT).all()
    assert features["image_is_filled"].to_list() == [False, True, False]
    assert features["text_is_filled"].to_list() == [False, False, False]
    weights = files.read_table(Path("results/toy/fuse/toy/cliper/view_weights.parquet"), "view_weights")
    assert weights.is_empty()


def spoilt(place: tuple[int, int], value: float) -> np.ndarray:
    rows = GIVEN_IMAGE.copy()
    rows[place] = value
    return rows


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (GIVEN_IMAGE[:2], "has 2 rows, but there are 3 items"),
        (GIVEN_IMAGE[0], r"has shape \(3,\) of float64, not \(items, width\) of numbers"),
        (np.stack([GIVEN_IMAGE] * 5), r"has shape \(5, 3, 3\)"),
        (np.empty((3, 0)), r"has shape \(3, 0\)"),
        (GIVEN_IMAGE.astype(complex), r"of complex128, not"),
        (spoilt((2, 1), math.nan), "item 2 has values that are not finite; mend the file"),
        (spoilt((1, 0), 1e39), "item 1 has values that are not finite"),  # more than float32 holds
        (np.array([[{}]] * 3, dtype=object), "is no array of numpy's .*objects.*; write it with numpy.save"),
        (b"\x80\x04N.", "is no array of numpy's"),  # a pickle
        (b"PK\x03\x04", "is no array of numpy's"),  # an archive of arrays
        (b"", "is no array of numpy's"),
        (b"\x93NUMPY\x01\x00", "is no array of numpy's"),
    ],
)
def test_given_features_that_cannot_be_used_are_refused(workdir: Path, image: object, complaint: str) -> None:
    config = write_given(image)
    with pytest.raises(FeatureError, match=f"image_feat.npy.*{complaint}"):
        fuse.run(config, dataset="toy", arm="cliper")
    assert not Path("results/toy/fuse").exists()


def test_missing_given_features_name_the_command_that_fetches_them(workdir: Path) -> None:
    with pytest.raises(DataError, match="Run: python -m cliper download --dataset toy --file own/text_feat.npy"):
        fuse.run(write_given(text=None), dataset="toy", arm="cliper")
