from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import toy

from cliper import files
from cliper.arrays import bring_near_one
from cliper.config import Config, MadeFeatures
from cliper.errors import CliperError, ConfigError, DataError, FeatureError
from cliper.features import fuse
from cliper.features.embeddings.ranges import span
from cliper.features.fusion import cnn2014, equations
from cliper.features.fusion.cnn2014 import RECORD, D
from cliper.features.fusion.given import read_given
from cliper.features.fusion.rows import FUSIONS
from cliper.schemas import TABLES

GOLDEN = toy.SHARED / "golden/cliper_fusion/fusion.npz"
FUSE = Path("results/shared/fuse")
SA = MadeFeatures(
    image="bridge",
    given=None,
    text="bridge",
    prompts="as_described",
    views=("title", "brand"),
    fusion="sa",
    temperature=0.5,
    vectors="raw",
    missing_field="sentence",
    missing_image="mean",
    control=None,
)


def f32(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def join(fusion: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return equations.JOINS[FUSIONS[fusion].join]


def views(text: np.ndarray, missing: object = False) -> fuse.Views:
    """Views a, b, … of these embeddings; missing is broadcast to (I, V)."""
    shape = text.shape[:2]
    names = tuple("abcdefgh"[: shape[1]])
    return fuse.Views(names, text, np.broadcast_to(missing, shape).astype(bool), pl.DataFrame())


def test_similarity_is_the_cosine_and_zero_for_a_zero_vector() -> None:
    text = f32([[[3, 4], [0, 0], [-4, 3]]])
    assert equations.cosine_similarities(text, f32([[6, 8]])) == pytest.approx(f32([[1, 0, 0]]))
    assert (equations.cosine_similarities(text, f32([[0, 0]])) == 0).all()


@pytest.mark.parametrize("image_scale", [1e-30, 1e-9, 1e-5, 1, 1e18])
@pytest.mark.parametrize("text_scale", [0, 1e-9, 3e-5, 1, 1e18])
def test_each_length_has_torchs_floor(text_scale: float, image_scale: float) -> None:
    draw = np.random.default_rng(0)
    text, image = f32(draw.standard_normal((6, 3, 5))) * f32(text_scale), f32(draw.standard_normal((6, 5)))
    image *= f32(image_scale)
    theirs = torch.nn.functional.cosine_similarity(torch.tensor(text), torch.tensor(image)[:, None], dim=2)
    np.testing.assert_allclose(equations.cosine_similarities(text, image), theirs, rtol=1e-5, atol=1e-6)


def test_the_floor_is_not_that_of_the_product() -> None:
    # 1e-9 becomes 1e-8: a tenth of the cosine, however long the other vector is.
    text, image = f32([[[3e-10, 4e-10]]]), f32([[6e5, 8e5]])
    assert equations.cosine_similarities(text * f32(2), image) == pytest.approx(f32([[0.1]]))


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e19, 1e25, 1e37])
def test_lengths_that_float32_cannot_square_are_lengths(scale: float) -> None:
    text, image = f32([[[3, 4], [4, -3], [0, 0], [4, 3]]]), f32([[6, 8]])
    expected = f32([[[0.6, 0.8], [0.8, -0.6], [0, 0], [0.8, 0.6]]])
    np.testing.assert_allclose(equations.normalise(text * f32(scale)), expected, rtol=1e-5)
    if scale > 1:
        for sides in ((text * f32(scale), image), (text, image * f32(scale)), (text * f32(scale), image * f32(scale))):
            np.testing.assert_allclose(equations.cosine_similarities(*sides), f32([[1, 0, 0, 0.96]]), atol=1e-6)


def test_ordinary_vectors_are_not_copied() -> None:
    text = f32([[[3, 4], [0, 0]]])
    assert bring_near_one(text)[0] is text


def test_weights_are_the_softmax_of_equation_2() -> None:
    # similarities 1 and 0 at temperature 0.5: e^2 / (e^2 + 1)
    weights = equations.similarity_weights(f32([[1, 0]]), np.array([[True, True]]), temperature=0.5)
    assert weights == pytest.approx(f32([[math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)]]))


def test_a_small_temperature_neither_overflows_nor_divides_by_zero() -> None:
    weights = equations.similarity_weights(f32([[1, -1, 1]]), np.ones((1, 3), bool), temperature=1e-4)
    assert weights.tolist() == [[0.5, 0, 0.5]]


def test_the_softmax_runs_over_the_views_that_count() -> None:
    counts = np.array([[False, True, True], [False, False, False]])
    weights = equations.similarity_weights(f32([[9, 1, 0], [1, 1, 1]]), counts, temperature=0.5)
    near, far = math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)
    assert weights == pytest.approx(f32([[0, near, far], [0, 0, 0]]))


def test_fusions_follow_equation_3() -> None:
    text, even = f32([[[1, 2], [10, 20]], [[3, 4], [30, 40]]]), f32([[0.5, 0.5], [0.5, 0.5]])
    assert equations.fuse_sum(text, even).tolist() == [[11, 22], [33, 44]]
    assert equations.fuse_concat(text, even).tolist() == [[1, 2, 10, 20], [3, 4, 30, 40]]
    assert equations.fuse_weighted(text, f32([[1, 0], [0.5, 0.5]])).tolist() == [[1, 2], [16.5, 22]]


def test_a_view_of_weight_0_is_left_out_of_every_fusion() -> None:
    text, weights = f32([[[1, 2], [10, 20]]]), f32([[0, 1]])
    assert equations.fuse_sum(text, weights).tolist() == equations.fuse_weighted(text, weights).tolist() == [[10, 20]]
    assert equations.fuse_concat(text, weights).tolist() == [[0, 0, 10, 20]]


def test_an_unknown_fusion_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=f"arms.cliper.fusion: 'max' is not known; known: {', '.join(FUSIONS)}$"):
        toy.settings(arms={"cliper": {"fusion": "max"}})


def test_every_row_names_functions_that_exist_and_each_is_used() -> None:
    assert {fusion.weigh for fusion in FUSIONS.values()} == set(equations.WEIGHTS)
    assert {fusion.join for fusion in FUSIONS.values()} == set(equations.JOINS)


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_ignores_zero_vectors_that_are_added_and_keeps_items_apart(name: str) -> None:
    text = f32(np.random.default_rng(0).standard_normal((4, 2, 3)))
    text[1] = 0
    weights = np.full((4, 2), 0.5, dtype=np.float32)
    fused = join(name)(text, weights)
    assert fused.dtype == np.float32
    assert (fused[1] == 0).all() or name == "mlp_frozen"  # its layer adds a bias
    for item in range(4):  # the slow twin: one item at a time
        alone = join(name)(text[item : item + 1], weights[item : item + 1])
        np.testing.assert_allclose(fused[item : item + 1], alone, atol=1e-6)


def test_vectors_are_cut_to_length_1_and_zero_stays_zero() -> None:
    assert equations.normalise(f32([[[3, 4], [0, 0]]])) == pytest.approx(f32([[[0.6, 0.8], [0, 0]]]))


def test_an_item_without_an_image_gets_uniform_weights_and_no_rank() -> None:
    text, image = f32(np.eye(4)[None].repeat(2, axis=0)), f32([[0, 1, 0, 0], [0, 1, 0, 0]])
    weighed = fuse.weigh(views(text), image, np.array([False, True]), SA)
    assert weighed.weight[0, 1] > 0.5
    assert weighed.weight[1].tolist() == [0.25] * 4
    assert weighed.rank.tolist() == [[2, 1, 3, 4], [0, 0, 0, 0]]


def test_a_default_image_weighs_the_views_as_released() -> None:
    text, image = f32(np.eye(4)[None]), f32([[0, 1, 0, 0]])
    arm = dataclasses.replace(SA, missing_image="default_image")
    weighed = fuse.weigh(views(text), image, np.array([True]), arm)
    assert weighed.weight[0, 1] > 0.5
    assert weighed.rank.tolist() == [[0, 0, 0, 0]]  # it is not the item's own image


def test_the_mean_stands_for_a_missing_image_unless_another_vector_is_given() -> None:
    present, is_missing = f32([[1, 0], [3, 4]]), np.array([True, False, True, False])
    assert fuse.fill_images(present, is_missing, None).tolist() == [[2, 2], [1, 0], [2, 2], [3, 4]]
    assert fuse.fill_images(present, is_missing, f32([7, 8])).tolist() == [[7, 8], [1, 0], [7, 8], [3, 4]]


@pytest.mark.parametrize("name", ["sa", "mean", "sum", "concat"])
def test_a_masked_view_has_weight_0_and_the_others_share_what_it_had(name: str) -> None:
    text, image = f32([[[1, 0], [0, 1], [0, 1]]] * 2), f32([[1, 0]] * 2)
    masking = dataclasses.replace(SA, fusion=name, temperature=0.5 if name == "sa" else None, missing_field="mask")
    missing = [[True, False, False], [True, True, True]]
    weighed = fuse.weigh(views(text, missing), image, np.zeros(2, bool), masking)
    assert weighed.weight.tolist() == [[0, 0.5, 0.5], [0, 0, 0]]  # an item without any field has no text at all
    assert weighed.rank.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert (join(name)(text, weighed.weight)[1] == 0).all()


def test_the_released_mean_takes_the_first_three_views() -> None:
    arm = dataclasses.replace(SA, fusion="mean_as_released", temperature=None)
    weighed = fuse.weigh(views(f32(np.ones((1, 5, 2)))), f32([[1, 0]]), np.zeros(1, bool), arm)
    assert weighed.weight[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])


def test_views_in_another_space_than_the_image_have_no_similarity() -> None:
    arm = dataclasses.replace(SA, image="lite0", text="minilm", fusion="concat", temperature=None)
    weighed = fuse.weigh(views(f32(np.ones((2, 1, 3)))), f32(np.ones((2, 5))), np.zeros(2, bool), arm)
    assert weighed.similarity is None
    assert weighed.weight.tolist() == [[1.0], [1.0]]
    assert weighed.rank.tolist() == [[0], [0]]


def test_one_encoder_whose_texts_and_images_differ_in_width_gives_no_similarity() -> None:
    texts, images, filled = views(f32(np.ones((2, 1, 3)))), f32(np.ones((2, 5))), np.zeros(2, bool)
    weighed = fuse.weigh(texts, images, filled, dataclasses.replace(SA, fusion="sum", temperature=None))
    assert weighed.similarity is None
    assert weighed.weight.tolist() == [[1.0], [1.0]]
    with pytest.raises(FeatureError, match=r"gives texts of width 3 and images of width 5, which sa cannot compare"):
        fuse.weigh(texts, images, filled, SA)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared")
@pytest.mark.parametrize(
    ("name", "by", "tau"),
    [
        ("Attention_0.1", "sa", 0.1),
        ("Attention_0.2", "sa", 0.2),
        ("Concat", "concat", None),
        ("Sum", "sum", None),
        ("Mean", "mean_as_released", None),
    ],
)
def test_golden_fusion_equals_the_released_codes(name: str, by: str, tau: float | None) -> None:
    golden = np.load(GOLDEN)
    text, image = golden["text_views"].transpose(1, 0, 2), golden["image"]
    arm = dataclasses.replace(SA, fusion=by, temperature=tau)
    weighed = fuse.weigh(views(text), image, np.zeros(len(image), bool), arm)
    fused = join(by)(text, weighed.weight)
    np.testing.assert_allclose(fused, golden[name], rtol=0, atol=5e-6)
    assert weighed.similarity is not None
    assert weighed.similarity[4, 2] == 0  # that view of that item is a zero vector


def write_embeddings(
    settings: Config,
    text: dict[str, np.ndarray],
    image: np.ndarray,
    missing: list[bool],
    prompts: str = "two",
    encoder: str = "bridge",
) -> None:
    """Embeddings of all items in the config's ranges; the last item has no image."""
    n_items, ranges = len(image), settings.encode.ranges
    status = ["ok"] * (n_items - 1) + ["no_image"]
    images = pl.DataFrame({"item": range(n_items), "status": status, "embedding": image}).with_columns(
        embedding=pl.when(status="ok").then("embedding")
    )
    tables = {
        view: pl.DataFrame(
            {
                "item": range(n_items),
                "view": [view] * n_items,
                "text_sha256": ["same", *(f"text {i}" for i in range(n_items - 2)), "same"],
                "embedding": vectors,
                "n_tokens": range(3, n_items + 3),
                "n_chunks": [1] * n_items,
                "truncated": [False] * n_items,
                "is_missing": missing,
            }
        )
        for view, vectors in text.items()
    }
    for number in range(ranges):
        where = {"dataset": "toy", "encoder": encoder, "range": number, "ranges": ranges}
        start, stop = span(n_items, number, ranges)
        path = toy.path(settings, "image_embeddings", **where)
        files.write_table(path, "image_embeddings", images[start:stop], metadata={"weights": "w"})
        for view, table in tables.items():
            path = toy.path(settings, "text_embeddings", **where, prompts=prompts, view=view)
            files.write_table(path, "text_embeddings", table[start:stop], metadata={"weights": "w"})


def with_arm(**changes: object) -> Config:
    """A prompt set of the views b and a, and an arm of it."""
    view = {"fields": ["title"], "prompt": "___", "missing": "-"}
    arm = {"d": 4, "image": "bridge", "text": "bridge", "prompts": "two", "fusion": "sa", "temperature": 0.5}
    views = {"two": {"b": view, "a": view}}
    return toy.settings(**toy.dataset(Path("unused")), prompts=views, arms={"cliper": arm | changes})


@pytest.fixture
def two_views(workdir: Path) -> Config:
    return with_arm()


def read(settings: Config, result: str) -> pl.DataFrame:
    """What the stage wrote of the arm cliper."""
    return files.read_table(toy.path(settings, result, dataset="toy", arm="cliper"), result)


def test_the_stage_keeps_the_sets_order_and_the_flags(two_views: Config) -> None:
    text = {"a": f32([[0, 1], [0, 1], [0, 1]]), "b": f32([[1, 0], [1, 0], [1, 0]])}
    write_embeddings(two_views, text, f32([[1, 0], [0, 1], [1, 0]]), [False, True, False])
    toy.run("fuse", two_views, dataset="toy", arm="cliper")
    features = read(two_views, "features")
    near, far = math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)
    assert features["text"].to_numpy() == pytest.approx(f32([[near, far], [far, near], [0.5, 0.5]]))
    assert features["image_is_filled"].to_list() == [False, False, True]
    assert features["text_is_filled"].to_list() == [False, True, False]
    weights = read(two_views, "view_weights")
    assert weights["view"].to_list() == ["a", "b"] * 3
    assert weights["weight"].to_list() == pytest.approx([far, near, near, far, 0.5, 0.5])
    assert weights["rank"].to_list() == [2, 1, 1, 2, None, None]
    fallbacks = read(two_views, "fallbacks")
    assert fallbacks.rows() == [
        ("a", "sentence", 1),
        ("b", "sentence", 1),
        ("cover image", "mean", 1),
        ("every view", "sentence", 1),
    ]


def test_features_do_not_depend_on_the_number_of_ranges(two_views: Config) -> None:
    drawn = np.random.default_rng(0)
    text = {view: f32(drawn.standard_normal((9, 3))) for view in ("a", "b")}
    image, found = f32(drawn.standard_normal((9, 3))), []
    for ranges in (1, 2, 9):
        cut = toy.changed(two_views, "encode", ranges=ranges)
        write_embeddings(cut, text, image, [False] * 9)
        toy.run("fuse", cut, dataset="toy", arm="cliper")
        folder = toy.path(cut, "features", dataset="toy", arm="cliper").parent
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
        report = read(cut, "token_report")
        shutil.rmtree("results")
    assert set(found[0]) == {f"{name}.parquet" for name in ("features", "view_weights", "fallbacks", "tokens")}
    assert found[0] == found[1] == found[2]
    assert report.rows() == [(view, 9, 8, 3, 7.0, 11, 0, 0) for view in ("a", "b")]


def test_ranges_that_do_not_belong_to_each_other_are_refused(two_views: Config) -> None:
    cut = toy.changed(two_views, "encode", ranges=2)
    write_embeddings(cut, {view: f32(np.eye(4)) for view in ("a", "b")}, f32(np.eye(4)), [False] * 4)
    first, second = (
        toy.path(cut, "image_embeddings", dataset="toy", encoder="bridge", range=number, ranges=2) for number in (0, 1)
    )
    table = files.read_table(second, "image_embeddings")
    files.write_table(second, "image_embeddings", table, metadata={"weights": "other"})
    with pytest.raises(FeatureError, match=f"{second.name} was made in another way than {first.name}"):
        toy.run("fuse", cut, dataset="toy", arm="cliper")
    shutil.copyfile(first, second)
    with pytest.raises(FeatureError, match=f"{second.name} does not follow the range before it"):
        toy.run("fuse", cut, dataset="toy", arm="cliper")
    second.write_bytes(second.read_bytes()[:200])
    with pytest.raises(DataError, match=f"{second.name} cannot be read .* encode-image --place .* --range 1"):
        toy.run("fuse", cut, dataset="toy", arm="cliper")
    second.unlink()
    with pytest.raises(DataError, match=f"{second.name} is missing. Run: python -m cliper encode-image"):
        toy.run("fuse", cut, dataset="toy", arm="cliper")
    assert not FUSE.exists()


def test_without_any_image_there_is_no_mean(two_views: Config) -> None:
    write_embeddings(two_views, {view: f32([[1], [1]]) for view in ("a", "b")}, f32([[1], [1]]), [False, False])
    path = toy.path(two_views, "image_embeddings", dataset="toy", encoder="bridge", range=0, ranges=1)
    table = files.read_table(path, "image_embeddings")
    none = table.with_columns(status=pl.lit("undecodable"), embedding=pl.lit(None, pl.Array(pl.Float32, 1)))
    files.write_table(path, "image_embeddings", none)
    with pytest.raises(FeatureError, match="no item has an image"):
        toy.run("fuse", two_views, dataset="toy", arm="cliper")


def test_an_arm_takes_the_views_that_it_names_in_its_order(two_views: Config) -> None:
    text = {"a": f32([[0, 1], [0, 1]]), "b": f32([[1, 0], [1, 0]])}
    write_embeddings(two_views, text, f32([[3, 4], [0, 2]]), [False, False])  # the second is not there
    chosen = with_arm(views=["a", "b"], fusion="concat", temperature=None, vectors="normalised")
    toy.run("fuse", chosen, dataset="toy", arm="cliper")
    features = read(chosen, "features")
    assert features["text"].to_list() == [[0, 1, 1, 0]] * 2
    assert features["image"].to_numpy() == pytest.approx(f32([[0.6, 0.8]] * 2))


def test_the_frozen_mlp_is_a_layer_that_torch_could_have_drawn_and_is_the_same_in_every_run() -> None:
    text = f32(np.random.default_rng(1).standard_normal((50, 5, 64)))
    fused = join("mlp_frozen")(text, np.full((50, 5), 0.2, np.float32))
    assert fused.shape == (50, 64)
    assert (fused == join("mlp_frozen")(text, np.full((50, 5), 0.2, np.float32))).all()
    # Weights uniform within 1/sqrt(n) have variance 1/(3n), so n inputs of variance 1 sum to a variance of 1/3.
    inner = np.where(fused > 0, fused, fused / 0.01)  # undoes LeakyReLU
    assert inner.std() == pytest.approx(3**-0.5, rel=0.05)
    # Affine before LeakyReLU: the middle of two rows ends in the middle.
    a, b = text[:1], text[1:2]
    rows = np.concatenate([(a + b) / 2, a, b])
    halfway, *ends = join("mlp_frozen")(rows, np.ones(rows.shape[:2]))
    linear = [np.where(x > 0, x, x / 0.01) for x in (halfway, *ends)]
    assert linear[0] == pytest.approx((linear[1] + linear[2]) / 2, abs=1e-5)


def fused_under(control: str | None, **changes: object) -> tuple[Config, pl.DataFrame]:
    """Features of six items, the last without an image, the second without a text; similarity weights the views."""
    drawn = np.random.default_rng(2)
    text = {view: f32(drawn.standard_normal((6, 4))) for view in ("a", "b")}
    settings = with_arm(control=control, **changes)
    missing = [False, True, False, False, False, False]
    write_embeddings(settings, text, f32(drawn.standard_normal((6, 4)) + 3), missing)
    toy.run("fuse", settings, dataset="toy", arm="cliper")
    return settings, read(settings, "features")


def test_shuffled_images_are_anothers_in_weights_and_features_alike(workdir: Path) -> None:
    (own, plain), (other, shuffled) = fused_under(None), fused_under("shuffled_images")
    before, after = (table["image"].to_numpy() for table in (plain, shuffled))
    assert sorted(after[:5].tolist()) == sorted(before[:5].tolist())
    assert not (after[:5] == before[:5]).all(axis=1).any()  # no item keeps its own
    assert (after[5] == before[5]).all()  # the mean of the others stays
    assert shuffled["image_is_filled"].to_list() == plain["image_is_filled"].to_list() == [False] * 5 + [True]
    text = np.stack([read_views(other, view) for view in ("b", "a")], axis=1)
    weights = equations.similarity_weights(
        equations.cosine_similarities(text, after), np.ones((6, 2), bool), temperature=0.5
    )
    assert shuffled["text"].to_numpy()[:5] == pytest.approx(equations.fuse_weighted(text, weights)[:5], abs=1e-6)
    assert not np.allclose(shuffled["text"].to_numpy()[:5], plain["text"].to_numpy()[:5])
    assert toy.path(own, "features", dataset="toy", arm="cliper") != toy.path(
        other, "features", dataset="toy", arm="cliper"
    )
    assert read(own, "fallbacks").equals(read(other, "fallbacks"))


def read_views(settings: Config, view: str) -> np.ndarray:
    where = {"dataset": "toy", "encoder": "bridge", "prompts": "two", "view": view, "range": 0, "ranges": 1}
    embeddings = files.read_table(toy.path(settings, "text_embeddings", **where), "text_embeddings")["embedding"]
    found: np.ndarray = embeddings.to_numpy()
    return found


def test_noise_has_the_size_of_the_features_and_nothing_else_of_them(workdir: Path) -> None:
    (_, plain), (settings, noise), (_, again) = (fused_under(name) for name in (None, "noise", "noise"))
    assert noise.equals(again)
    for part in ("image", "text"):
        real, drawn = plain[part].to_numpy(), noise[part].to_numpy()
        assert drawn.shape == real.shape
        assert 0.5 < np.sqrt((drawn**2).mean() / (real**2).mean()) < 2  # of 24 draws
        assert abs(np.corrcoef(real.ravel(), drawn.ravel())[0, 1]) < 0.6
    assert not np.allclose(noise["image"].to_numpy(), noise["text"].to_numpy())
    assert noise["image_is_filled"].to_list() == plain["image_is_filled"].to_list()
    assert (
        files.read_metadata(toy.path(settings, "features", dataset="toy", arm="cliper"), "features")["control"]
        == "noise"
    )


def test_text_only_has_no_image_in_features_weights_or_flags(workdir: Path) -> None:
    settings, features = fused_under("text_only")
    assert not features["image"].to_numpy().any()
    assert features["image_is_filled"].all()
    assert features["text_is_filled"].to_list() == [False, True] + [False] * 4
    weights = read(settings, "view_weights")
    assert (weights["weight"] == 0.5).all()
    assert weights["rank"].null_count() == weights.height
    uniform = fused_under(None, fusion="mean", temperature=None)[1]
    assert features["text"].to_numpy() == pytest.approx(uniform["text"].to_numpy())
    assert read(settings, "fallbacks").filter(missing="cover image")["n_items"].item() == 1  # what the data lack


def test_image_only_has_no_text_in_features_or_flags(workdir: Path) -> None:
    (_, plain), (_, features) = fused_under(None), fused_under("image_only")
    assert not features["text"].to_numpy().any()
    assert features["text_is_filled"].all()
    assert features.select("image", "image_is_filled").equals(plain.select("image", "image_is_filled"))


def test_a_default_image_is_read_where_the_arm_asks_for_it(two_views: Config) -> None:
    text = {"a": f32([[0, 1], [0, 1]]), "b": f32([[1, 0], [1, 0]])}
    write_embeddings(two_views, text, f32([[1, 0], [9, 9]]), [False, False])
    table = pl.DataFrame({"item": [-1], "embedding": f32([[7, 8]])})
    path = toy.path(two_views, "default_image", encoder="bridge")
    files.write_table(path, "default_image", table)
    default = with_arm(missing_image="default_image")
    toy.run("fuse", default, dataset="toy", arm="cliper")
    features = read(default, "features")
    assert features["image"].to_list() == [[1, 0], [7, 8]]
    assert features["image_is_filled"].to_list() == [False, True]
    zero = with_arm(missing_image="zero")
    toy.run("fuse", zero, dataset="toy", arm="cliper")
    assert read(zero, "features")["image"].to_list() == [[1, 0], [0, 0]]


def test_a_broken_vector_is_named_by_its_item(two_views: Config) -> None:
    text = {"a": f32([[0, 1], [0, math.nan]]), "b": f32([[1, 0], [1, 0]])}
    write_embeddings(two_views, text, f32([[1, 0], [0, 1]]), [False, False])
    with pytest.raises(FeatureError, match="text embeddings of toy: item 1 has values that are not finite"):
        toy.run("fuse", two_views, dataset="toy", arm="cliper")


GIVEN_IMAGE = np.array([[1, 2, 3], [0, 0, 0], [4, 5, 6]], dtype=np.float64)
GIVEN_TEXT = f32([[1, 0], [0, 1], [0.5, 0]])


def write_given(image: object = GIVEN_IMAGE, text: object = GIVEN_TEXT) -> Config:
    """Three items without metadata, and features for the arm cliper, which names encoders all the same."""
    given = {"cliper": {"image": "own/image_feat.npy", "text": "own/text_feat.npy"}}
    source = {"kind": "mmrec", "inter": "x.inter", "mirrors": ["unused"], "features": given}
    chosen = toy.settings(name="toy", run={"datasets": ["toy"]}, datasets={"toy": {"title": "Toy", "source": source}})
    items = pl.DataFrame({"item": range(3), "categories": [None] * 3}).with_columns(
        pl.lit(None).alias(name) for name in ("asin", "title", "brand", "description", "image_url")
    )
    files.write_table(toy.path(chosen, "items", dataset="toy"), "items", items)
    for file, rows in (("own/image_feat.npy", image), ("own/text_feat.npy", text)):
        path = toy.path(chosen, "raw", dataset="toy", file=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        elif rows is not None:
            np.save(path, rows, allow_pickle=True)  # type: ignore[arg-type]
    return chosen


def test_given_features_are_taken_as_they_are_and_a_row_of_zeros_is_flagged(workdir: Path) -> None:
    chosen = write_given()
    toy.run("fuse", chosen, dataset="toy", arm="cliper")
    features = read(chosen, "features")
    assert features["item"].to_list() == [0, 1, 2]
    assert (features["image"].to_numpy() == GIVEN_IMAGE).all()
    assert features["image"].to_numpy().dtype == np.float32
    assert (features["text"].to_numpy() == GIVEN_TEXT).all()
    assert features["image_is_filled"].to_list() == [False, True, False]
    assert features["text_is_filled"].to_list() == [False, False, False]
    assert read(chosen, "view_weights").is_empty()


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
        (spoilt((2, 1), math.nan), "item 2 has values that are not finite; repair the file"),
        (spoilt((1, 0), 1e39), "item 1 has values that are not finite"),  # more than float32 holds
        (np.array([[{}]] * 3, dtype=object), "is no array of numpy's .*objects.*; write it with numpy.save"),
        (b"\x80\x04N.", "is no array of numpy's"),  # a pickle
        (b"PK\x03\x04", "is no array of numpy's"),  # an archive of arrays
        (b"", "is no array of numpy's"),
        (b"\x93NUMPY\x01\x00", "is no array of numpy's"),
    ],
)
def test_given_features_that_cannot_be_used_are_refused(workdir: Path, image: object, complaint: str) -> None:
    chosen = write_given(image)
    with pytest.raises(FeatureError, match=f"image_feat.npy.*{complaint}"):
        toy.run("fuse", chosen, dataset="toy", arm="cliper")
    assert not FUSE.exists()


def npy(header: str, *, n_bytes: int = 36) -> bytes:
    """A file of numpy's with any text as its header."""
    text = f"{header:<117}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(n_bytes)


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3)}"
SHAPES = [
    "(-3, -3)",
    "(3, -3)",
    "(3, True)",
    "(3, 3.0)",
    f"(3, {10**20})",
    f"(3, {2**62})",
    "(3, 1000000000)",
    "3",
    "()",
]
KINDS = ["'|O'", "[('a', 'O')]", "'<f4,<f4'", "None", "'x'", "[]"]
TEXTS = ["", "1", "{[]: 1}", "{1: 2, 'shape': 3}", "(" * 99, "'''", HEADER[:-1], "\n  1\n 2", "-" * 5_000 + "1"]


@pytest.mark.parametrize(
    "content",
    [
        *(npy(HEADER.replace("(3, 3)", shape)) for shape in SHAPES),
        *(npy(HEADER.replace("'<f4'", kind)) for kind in KINDS),
        *(npy(text) for text in TEXTS),
        npy(HEADER, n_bytes=35),
        npy(HEADER)[:60],
    ],
)
def test_a_hostile_header_of_numpys_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image_feat.npy"
    path.write_bytes(content)
    with pytest.raises(FeatureError, match=r"image_feat\.npy (is no array of numpy's|has shape)"):
        read_given(path, 3)


def test_rows_in_the_order_of_fortran_are_the_same_features(tmp_path: Path) -> None:
    np.save(tmp_path / "image_feat.npy", np.asfortranarray(GIVEN_IMAGE))
    read = read_given(tmp_path / "image_feat.npy", 3)
    assert read.flags.c_contiguous
    assert (read == GIVEN_IMAGE).all()


def test_missing_given_features_name_the_command_that_fetches_them(workdir: Path) -> None:
    with pytest.raises(DataError, match="Run: python -m cliper download --dataset toy --file own/text_feat.npy"):
        toy.run("fuse", write_given(text=None), dataset="toy", arm="cliper")


def write_image_file(path: Path, **features: float) -> None:
    """A file of Amazon-2014: each item's 4096 features are its value, but the first, which is 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(asin.encode(), [1.0] + [value] * (D - 1)) for asin, value in features.items()]
    path.write_bytes(np.array(rows, dtype=RECORD).tobytes())


@pytest.fixture
def with_image_file(workdir: Path) -> Config:
    """Three items with one view in space minilm; images of an amazon2014 dataset for the arm vanilla."""
    source = {"kind": "amazon2014", "category": "Toy", "interactions": "ratings"}
    source |= {"features": {"vanilla": {"image": "image_features_Toy.b"}}}
    toy_set = {"title": "Toy", "source": source, "k_core": 5, "split": "random", "split_seed": 1}
    settings = toy.settings(name="toy", run={"datasets": ["toy"], "arms": ["vanilla"]}, datasets={"toy": toy_set})
    write_embeddings(settings, {"joined": np.eye(3, 4)}, np.zeros((3, 4)), [False] * 3, "joined_fields", "minilm")
    asins = pl.DataFrame({"item": [0, 1, 2], "asin": ["B000000000", "B000000001", "B000000002"]})
    blank = {name: pl.lit(None) for name in TABLES["items"].columns if name not in asins.columns}
    files.write_table(toy.path(settings, "items", dataset="toy"), "items", asins.with_columns(**blank))
    return settings


def image_file(settings: Config) -> Path:
    return toy.path(settings, "raw", dataset="toy", file="image_features_Toy.b")


def test_cnn_features_of_2014_take_the_place_of_an_image_encoder(with_image_file: Config) -> None:
    write_image_file(image_file(with_image_file), B000000002=4, X=9, B000000000=2, B00000000X=9)
    toy.run("fuse", with_image_file, dataset="toy", arm="vanilla")
    path = toy.path(with_image_file, "features", dataset="toy", arm="vanilla")
    features = files.read_table(path, "features")
    assert features["image"].to_numpy()[:, :2].tolist() == [[1, 2], [1, 3], [1, 4]]  # item 1: the mean of the others
    assert features["image_is_filled"].to_list() == [False, True, False]
    assert features["text"].to_numpy().tolist() == np.eye(3, 4).tolist()
    assert files.read_metadata(path, "features")["encoders"] == {
        "image": "image_features_Toy.b",
        "text": "minilm (sentence)",
    }


@pytest.mark.parametrize(("policy", "filled"), [("mean", 3), ("zero", 0), ("drop_item", 3)])
def test_items_that_the_features_of_2014_lack_are_counted_and_filled_as_the_arm_says(
    with_image_file: Config, policy: str, filled: float
) -> None:
    arm = changed_arm(with_image_file, missing_image=policy)
    write_image_file(image_file(arm), B000000000=2, B000000002=4)
    toy.run("fuse", arm, dataset="toy", arm="vanilla")
    features = files.read_table(toy.path(arm, "features", dataset="toy", arm="vanilla"), "features")
    assert features["image"].to_numpy()[1, 1] == filled
    fallbacks = files.read_table(toy.path(arm, "fallbacks", dataset="toy", arm="vanilla"), "fallbacks")
    assert fallbacks.filter(missing="cover image").rows() == [("cover image", policy, 1)]


def changed_arm(settings: Config, **values: Any) -> Config:
    """With other values for the arm vanilla."""
    vanilla = settings.arms["vanilla"].model_copy(update=values)
    return settings.model_copy(update={"arms": settings.arms | {"vanilla": vanilla}})


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "32,787 bytes, no whole number of 16,394: it is cut"),
        (lambda path: path.write_bytes(b""), "0 bytes, no whole number"),
        (lambda path: write_image_file(path, OTHER=1), "has no item of toy"),
        (lambda path: write_image_file(path, B000000001=math.nan), "B000000001 has values that are not finite"),
        (lambda path: path.unlink(), "Run: python -m cliper download --dataset toy --file image_features_Toy.b"),
    ],
)
def test_an_image_file_that_cannot_be_used_is_refused(
    with_image_file: Config, spoil: Callable[[Path], object], complaint: str
) -> None:
    write_image_file(image_file(with_image_file), B000000000=1, B000000001=2)
    spoil(image_file(with_image_file))
    with pytest.raises(CliperError, match=complaint):
        toy.run("fuse", with_image_file, dataset="toy", arm="vanilla")


def test_the_first_of_two_records_of_an_item_counts_and_blocks_end_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = {f"B{n:09}": n for n in range(10)}
    write_image_file(tmp_path / "x.b", **items)
    whole = (tmp_path / "x.b").read_bytes()
    (tmp_path / "x.b").write_bytes(whole + np.array([(b"B000000003", [7] * D)], dtype=RECORD).tobytes())
    for block in (1, 3, 256):
        monkeypatch.setattr(cnn2014, "BLOCK", block)
        vectors, is_there = cnn2014.read_image_features(tmp_path / "x.b", {"B000000003": 1, "no": 0}, 2)
        assert vectors[:, 1].tolist() == [0, 3]
        assert is_there.tolist() == [False, True]
