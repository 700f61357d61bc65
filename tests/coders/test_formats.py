"""Every format and architecture against an independent float64 encoder; layouts told apart."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lakeinterp.coders import find, formats, hooks
from lakeinterp.coders.find import sure, units
from lakeinterp.errors import ConfigError, NotFound
from tests.coders import layouts
from tests.coders.layouts import LAYOUTS, D, L

N = 40
STATES = np.random.default_rng(0).standard_normal((N, D)) * 1.5 + 0.3


def write(name, tmp_path):
    """Write a layout; return the folder to look in and what it should give."""
    truth = LAYOUTS[name](tmp_path)
    inner = [p for p in tmp_path.iterdir() if p.name.startswith("gemma-scope-2b")]
    return (inner[0] if inner else tmp_path), truth


def load_first(root):
    folder = find(str(root))
    return folder.load(folder.specs[0], "cpu", 2**20)


def dense(active, width=L):
    code = np.zeros((N, width))
    code[active.token_M.numpy(), active.latent_M.numpy()] = active.value_M.numpy()
    return code


@pytest.mark.parametrize("name", LAYOUTS)
def test_encoding_and_decoding_equal_the_float64_truth(name, tmp_path):
    root, truth = write(name, tmp_path)
    folder = find(str(root))
    (spec,) = folder.specs
    x = torch.from_numpy(STATES.astype(np.float32))
    states = x.double().numpy()
    expected = np.array([truth.encode(row) for row in states])
    predicted = np.array([truth.decode(c, row) for c, row in zip(expected, states, strict=True)])
    assert 0 < np.count_nonzero(expected) < expected.size
    for chunk_bytes in (1, 7 * 12 * L, 2**20):
        coder = folder.load(spec, "cpu", chunk_bytes)
        active = coder.encode(x)
        np.testing.assert_allclose(dense(active), expected, atol=1e-4, rtol=1e-4)
        assert np.all(np.diff(active.token_M.numpy()) >= 0)
        assert bool((active.value_M > 0).all())
        assert active.value_M.dtype == torch.float32
        np.testing.assert_allclose(coder.decode(active, x), predicted, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_spec_says_format_place_and_size_before_weights_are_loaded(name, tmp_path):
    root, truth = write(name, tmp_path)
    (spec,) = find(str(root)).specs
    assert (spec.hookpoint, spec.format) == (truth.hookpoint, truth.format)
    assert (spec.module, spec.site, spec.target) == (truth.module, truth.site, truth.target)
    assert (spec.d_in, spec.n_latents) == (D, L)
    assert spec.published_l0 == pytest.approx(truth.published_l0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_claimed_by_one_format_and_forced_others_refuse_it(name, tmp_path):
    root, truth = write(name, tmp_path)
    for other in formats.FORMATS:
        if other == truth.format:
            assert find(str(root), format=other).specs[0].format == other
        else:
            with pytest.raises(ConfigError, match="holds no sparse coder that lakeinterp knows"):
                find(str(root), format=other)


def test_folder_of_several_formats_gives_each_hookpoint_its_own(tmp_path):
    for name in ("sparsify-False-False-False", "saelens-gated", "dictionary_learning-AutoEncoder"):
        LAYOUTS[name](tmp_path)
    found = {spec.hookpoint: spec.format for spec in find(str(tmp_path)).specs}
    assert found == {
        "layers.1.mlp": "sparsify",
        "blocks.1.hook_resid_pre": "saelens",
        "trainer_0": "dictionary_learning",
    }


def test_folder_that_two_formats_claim_is_refused_until_one_is_named(tmp_path):
    LAYOUTS["saelens-standard"](tmp_path)
    LAYOUTS["sparsify-False-False-False"](tmp_path / "other")
    both = tmp_path / "blocks.1.hook_resid_pre"
    shutil.copy(tmp_path / "other/layers.1.mlp/sae.safetensors", both)
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"saelens and of sparsify; set capture\.format"):
        find(str(tmp_path))
    assert find(str(tmp_path), format="saelens").specs[0].format == "saelens"


def test_unknown_layout_lists_what_was_found_and_what_is_known(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        find(str(tmp_path))
    message = str(caught.value)
    assert "found config.json, model.safetensors" in message
    assert all(name in message for name in formats.FORMATS)
    assert "ae.pt + config.json" in message
    assert "\n" not in message


def test_unknown_format_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(NotFound, match=r"unknown coder format 'saelen'; did you mean 'saelens'"):
        find(str(tmp_path), format="saelen")


def test_pickle_that_runs_code_is_never_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    LAYOUTS["dictionary_learning-AutoEncoder"](tmp_path)
    torch.save({"encoder.weight": Evil()}, tmp_path / "trainer_0" / "ae.pt")
    with pytest.raises(ConfigError, match=r"cannot read ae\.pt"):
        find(str(tmp_path))
    torch.save({"encoder.weight": Evil()}, tmp_path / "9.pt")
    (tmp_path / "trainer_0" / "ae.pt").unlink()
    with pytest.raises(ConfigError, match="holds no sparse coder"):
        find(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_revision_depends_on_every_one_of_many_coders(tmp_path):
    for layer in range(9):
        shutil.copytree(made(tmp_path / "one"), tmp_path / "all" / f"layers.{layer}")
    before = find(str(tmp_path / "all")).revision
    edit_tensor("sae.safetensors", "b_dec", torch.ones(D))(tmp_path / "all" / "layers.8")
    assert find(str(tmp_path / "all")).revision != before


def made(root):
    if not root.exists():
        LAYOUTS["sparsify-False-False-False"](root)
    return root / "layers.1.mlp"


def gemma_files(l0s, widths=("16k",)):
    return [f"layer_3/width_{w}/average_l0_{n}/params.npz" for w in widths for n in l0s]


def test_canonical_name_stands_for_the_l0_nearest_to_100(tmp_path):
    LAYOUTS["gemma_scope-res"](tmp_path)
    release = tmp_path / "gemma-scope-2b-pt-res"
    width = release / "layer_1" / "width_16k"
    for l0 in (22, 129):
        shutil.copytree(width / "average_l0_71", width / f"average_l0_{l0}")
    (spec,) = find(str(release), ["layer_1/width_16k/canonical"]).specs
    assert (spec.hookpoint, spec.published_l0) == ("layer_1/width_16k/average_l0_71", 71)
    with pytest.raises(NotFound, match="layer_9/width_16k/canonical"):
        find(str(release), ["layer_9/width_16k/canonical"])


def test_hub_files_needed_are_those_of_the_wanted_coders_alone():
    names = [
        "README.md", "config.json", ".gitattributes", "a/cfg.json", "a/sae_weights.safetensors",
        "a/sparsity.safetensors", "a/training_log.bin", "b/cfg.json", "b/sae.safetensors",
        "b/optimizer.pt", *gemma_files([10, 90], ["16k", "65k"]),
    ]  # fmt: skip
    found = {unit.hookpoint: set(unit.files) for unit in sure(units(names))}
    assert found["a"] == {"a/cfg.json", "a/sae_weights.safetensors", "a/sparsity.safetensors"}
    assert found["b"] == {"b/cfg.json", "b/sae.safetensors"}
    assert len(found) == 6
    assert [u.hookpoint for u in units(names, "saelens")] == ["a"]
    assert {u.format for u in sure(units(names))} == {"saelens", "sparsify", "gemma_scope"}
    assert {u.hookpoint for u in sure(units(["x/8.pt", "README.md"]))} == {"x/8"}


def test_place_that_no_file_names_is_asked_for(tmp_path):
    LAYOUTS["gemma_scope-res"](tmp_path)
    renamed = tmp_path / "my-gemma-scope-2b-pt-res-copy"
    (tmp_path / "gemma-scope-2b-pt-res").rename(renamed)
    with pytest.raises(ConfigError, match=r"set capture\.reads to res, mlp, att, transcoders"):
        find(str(renamed))
    (spec,) = find(str(renamed), reads="mlp").specs
    assert spec.module == "blocks.1.hook_mlp_out"
    (spec,) = find(str(renamed), reads="layers.{layer}.mlp.input").specs
    assert (spec.module, spec.site) == ("layers.1.mlp", "input")


def edit_json(change):
    def edit(folder):
        path = next(folder.rglob("c*f*g.json"))
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return edit


def edit_tensor(file, name, tensor):
    def edit(folder):
        path = next(folder.rglob(file))
        if file.endswith(".pt"):
            torch.save(torch.load(path, weights_only=True) | {name: tensor}, path)
        else:
            save_file(load_file(path) | {name: tensor}, path)

    return edit


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("saelens-standard", edit_json({"architecture": "temporal"}), "unknown architecture 'temp"),
        (
            "saelens-standard",
            edit_json({"normalize_activations": "covariance_whitening"}),
            "unknown normalize_activations 'covariance_whitening'",
        ),
        ("saelens-standard", edit_json({"metadata": {}}), r"no hook_name; set capture\.reads"),
        (
            "saelens-standard",
            edit_tensor("sae_weights.safetensors", "b_enc", torch.ones(3)),
            r"encoder bias has shape \[3\], expected \[48\]",
        ),
        (
            "saelens-standard",
            edit_tensor("sae_weights.safetensors", "log_sigma", torch.ones(3)),
            r"holds .*log_sigma.*expected W_enc",
        ),
        (
            "dictionary_learning-AutoEncoder",
            edit_json({"trainer": {"dict_class": "CrossCoder"}}),
            "unknown dict_class 'CrossCoder'",
        ),
        (
            "dictionary_learning-BatchTopKSAE",
            edit_tensor("ae.pt", "threshold", torch.tensor(-1.0)),
            "its threshold is -1, never set",
        ),
        (
            "gemma_scope_2-sae",
            edit_tensor("params.safetensors", "w_dec", torch.ones(L, 3, D)),
            "decodes to 3 layers",
        ),
    ],
)
def test_coder_that_cannot_be_read_right_is_refused_with_the_reason(name, edit, message, tmp_path):
    root, _ = write(name, tmp_path)
    edit(root)
    with pytest.raises(ConfigError, match=message):
        load_first(root)


@pytest.mark.parametrize("name", ["saelens-topk", "saelens-jumprelu", "saelens-gated"])
def test_nan_in_a_hidden_state_is_kept_for_the_caller_to_refuse(name, tmp_path):
    root, _ = write(name, tmp_path)
    folder = find(str(root))
    coder = folder.load(folder.specs[0], "cpu", 2**20)
    x = torch.from_numpy(STATES.astype(np.float32))
    x[7, 3] = float("nan")
    active = coder.encode(x)
    assert bool(active.value_M[active.token_M == 7].isnan().any())
    assert not bool(active.value_M[active.token_M != 7].isnan().any())


def test_thresholds_are_not_rounded_with_half_precision_states(tmp_path):
    root, truth = write("gemma_scope-res", tmp_path)
    folder = find(str(root))
    coder = folder.load(folder.specs[0], "cpu", 2**20)
    x = torch.from_numpy(STATES).to(torch.bfloat16)
    expected = np.array([truth.encode(row) for row in x.double().numpy()])
    np.testing.assert_array_equal(dense(coder.encode(x)) > 0, expected > 0)


@pytest.mark.parametrize("layer", [0, 11])
def test_every_hook_of_the_table_has_a_place_in_every_family(layer):
    config = type("Config", (), {"model_type": "", "use_parallel_residual": False})()
    for kind in hooks.FAMILIES:
        config.model_type = kind
        for part in hooks._OF_A_BLOCK:
            located = hooks.locate(f"blocks.{layer}.{part}", config)
            assert f".{layer}" in located.module


def test_truths_cover_every_format():
    assert {name.partition("-")[0] for name in layouts.LAYOUTS} == set(formats.FORMATS)


def test_files_whose_names_say_nothing_ask_for_what_they_lack(tmp_path):
    LAYOUTS["goodfire"](tmp_path)
    (tmp_path / "Llama-3.1-8B-Instruct-SAE-l1.pth").rename(tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"set capture\.reads to resid_post"):
        find(str(tmp_path))
    (spec,) = find(str(tmp_path), reads="layers.7.mlp").specs
    assert (spec.hookpoint, spec.module) == ("weights", "layers.7.mlp")
    (tmp_path / "weights.pth").unlink()
    LAYOUTS["qwen_scope"](tmp_path)
    next(tmp_path.iterdir()).rename(tmp_path / "copied")
    with pytest.raises(ConfigError, match="its file does not say its k; keep it in a folder"):
        find(str(tmp_path))


def test_a_repository_gives_a_file_with_what_lies_beside_it():
    names = ["layer_0.safetensors", "layer_1.safetensors", "config.yaml", "model.safetensors"]
    found = sure(units(names))
    assert [unit.files for unit in found] == [(name, "config.yaml") for name in names[:2]]


ASKING = """
import sys, time
from lakeinterp import hub
from lakeinterp.errors import ConfigError

def coder(name):
    from lakeinterp.coders import find
    found = find(name)
    print(found.revision, found.specs[0].hookpoint)

kinds = {"model": hub.require, "dataset": hub.require, "coder": lambda _, name: coder(name)}
for asked in sys.argv[1:]:
    kind, _, name = asked.partition(":")
    start = time.monotonic()
    try:
        kinds[kind](kind, name)
    except ConfigError as exc:
        print(exc)
    assert kind == "coder" or time.monotonic() - start < 5
"""


def asked(cache, address, *names):
    """Return what looking for names prints in a process of its own with another hub."""
    found = subprocess.run(
        [sys.executable, "-c", ASKING, *names],
        env={"HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), "HOME": "/nobody"},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    return found.stdout.splitlines()


def test_hub_that_is_away_is_one_quick_line_and_what_was_fetched_before_is_used(tmp_path):
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    shutil.copytree(made(tmp_path / "made"), snapshot / "layers.1.mlp")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
    with answering(None) as address:
        names = ("model:nobody/here", "dataset:nothing", "coder:nobody/here")
        lines = asked(tmp_path / "hub", address, *names, "model:a/b", "coder:a/b")
    for name, line in zip(names, lines, strict=False):
        kind, _, bare = name.partition(":")
        assert line.startswith(f"unknown {kind} '{bare}'; no such folder here, and the hub is not")
    assert lines[3:] == ["c0ffee layers.1.mlp"]


def test_hub_that_does_not_know_a_name_says_so(tmp_path):
    with answering(404) as address:
        (line,) = asked(tmp_path, address, "model:nobody/here")
    assert line.startswith(
        "unknown model 'nobody/here'; no such folder here, and the hub says: 404"
    )


@contextmanager
def answering(status):
    """Give the address of a server that answers everything alike; None closes its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    if status is None:
        server.server_close()
        yield address
        return
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
