"""What goes wrong while something runs: memory, interrupts, clocks, networks, packages, other processes."""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
import re
import signal
import sys
import tarfile
import threading
import time
import urllib.error
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from faults import Fault, pattern
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps.adapt import adapt_folder
from kdpl_utils.experiments import cache as cache_module
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.slurm import on_cluster
from kdpl_utils.learners import VPT, CoCoOp, CoOp, MaPLe, PromptSRC, base
from kdpl_utils.protocol import all_logits
from kdpl_utils.support.checkpoint import Checkpoint
from kdpl_utils.towers import text
from kdpl_utils.worlds import datasets, dictionaries
from kdpl_utils.worlds.photo_worlds import folder_world
from kdpl_utils.worlds.shards import Shards, tar_pictures

NAMES = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("hat", "house")]
PICTURES = [Image.new("RGB", (64, 64), (60 * i, 255 - 60 * i, 90)) for i in range(4)]


@dataclass
class Desk:
    """A model, an empty folder, and what pytest takes back afterwards."""

    vlm: kd.VLM
    folder: Path
    patch: pytest.MonkeyPatch

    def said_of(self, happens: Callable[[Desk], object]) -> tuple[list[str], list[str]]:
        """What is said in warnings, and the sentence of the error, if there is one."""
        errors = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                happens(self)
            except AssertionError:  # what was to be kept was not
                raise
            except Exception as error:
                errors.append(str(error))
        return [str(one.message) for one in caught if issubclass(one.category, UserWarning)], errors


@pytest.fixture(scope="module")
def vlm():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture
def desk(vlm, tmp_path, monkeypatch):
    return Desk(vlm, tmp_path, monkeypatch)


def check(case: str, table: dict[str, Fault], desk: Desk) -> None:
    """Each sentence is said, an error says one of them, and where there is none nothing is said."""
    warned, errors = desk.said_of(table[case].given)
    patterns = [pattern(sentence) for sentence in table[case].sentences]
    assert all(any(re.search(one, said) for said in warned + errors) for one in patterns), (warned, errors)
    assert all(any(re.search(one, error) for one in patterns) for error in errors), errors
    assert all("\n" not in said for said in warned + errors) and (patterns or not warned), warned


# --- a GPU without room ----------------------------------------------------------------------------------------------

NO_ROOM = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def small_gpu(desk: Desk, room: int, module: object, name: str, size: Callable[..., int]) -> list[int]:
    """A function that has room for so many; the sizes that it is asked for."""
    plain, asked = getattr(module, name), []

    def compute(*given):
        asked.append(size(*given))
        if asked[-1] > room:
            raise NO_ROOM
        return plain(*given)

    desk.patch.setattr(module, name, compute)
    return asked


def trained(kind: type, vlm: kd.VLM) -> list[torch.Tensor]:
    learner = kind(vlm)
    teacher = 3 * torch.randn((4, 4), generator=torch.Generator().manual_seed(0))
    kd.adapt(learner, kd.Pixels(vlm, PICTURES), kd.from_teacher(teacher, NAMES), torch.arange(4), 0,
             kd.Recipe(epochs=2, batch_size=4, lr=0.05, warmup_epochs=0))  # fmt: skip
    return [p.detach().clone() for p in learner.parameters()]


def trains_the_same(kind: type, room_for: str) -> Callable[[Desk], None]:
    def happens(desk: Desk) -> None:
        desk.patch.setattr("kdpl_utils.learners.promptsrc.templates", lambda: ("a photo of a {}.",))  # not sixty
        expected = trained(kind, desk.vlm)
        if room_for == "prompts":
            asked = small_gpu(desk, 3, text, "_encode_tree", lambda model, tree, *_: len(tree.end))
        else:
            asked = small_gpu(desk, 1, base, "encode_image", lambda model, pixels, tokens: len(pixels))
        found = trained(kind, desk.vlm)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, expected))
        assert any(not torch.equal(p, q) for p, q in zip(found, kind(desk.vlm).parameters()))
        too_large = [size for size in asked if size > (3 if room_for == "prompts" else 1)]
        assert asked[: len(too_large)] == too_large, "what was too large once is not tried again"
        assert all(2 * later <= size for size, later in zip(too_large, too_large[1:])), "each half of the last"

    return happens


def there_is_no_room_at_all(desk: Desk) -> None:
    small_gpu(desk, 0, text, "_encode_tree", lambda model, tree, *_: len(tree.end))
    learner = CoOp(desk.vlm)
    before = learner.prompt.ctx.detach().clone()
    recipe, features = kd.Recipe(epochs=1, batch_size=2), torch.eye(2, 128)
    try:
        kd.adapt(learner, features, kd.from_labels(torch.arange(2), NAMES), torch.arange(2), 0, recipe)
    finally:
        assert torch.equal(learner.prompt.ctx, before)


def the_gradient_has_no_room(desk: Desk) -> None:
    """Forwards there is room, backwards there is not, once."""
    expected, plain, tried = trained(CoOp, desk.vlm), torch.Tensor.backward, []

    def backward(value, *given, **how):
        tried.append(1)
        plain(value, *given, **how)
        if len(tried) == 2:  # the second step, so that there is momentum; half of the gradient is there
            raise NO_ROOM

    desk.patch.setattr(torch.Tensor, "backward", backward)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(trained(CoOp, desk.vlm), expected))
    assert len(tried) == 3


def few_pictures_fit(desk: Desk) -> None:
    expected = kd.encode_images(desk.vlm, PICTURES)
    small_gpu(desk, 2, desk.vlm.model, "encode_image", len)
    assert torch.allclose(kd.encode_images(desk.vlm, PICTURES), expected, atol=1e-6)


def few_names_fit(desk: Desk) -> None:
    expected = kd.encode_names(desk.vlm, NAMES)
    small_gpu(desk, 3, text, "_encode_tree", lambda model, tree, *_: len(tree.end))
    assert torch.allclose(kd.encode_names(desk.vlm, NAMES), expected, atol=1e-6)


def few_answers_fit(desk: Desk) -> None:
    def classify(features):
        if len(features) > 2:
            raise NO_ROOM
        return 2 * features

    assert torch.equal(all_logits(classify, torch.ones(5, 2)), 2 * torch.ones(5, 2))


def the_model_does_not_fit(desk: Desk) -> None:
    def create(*given, **how):
        raise NO_ROOM

    desk.patch.setattr("open_clip.create_model_and_transforms", create)
    kd.load_vlm("emoji-student-vit", device="cpu")


LESS_AT_A_TIME = (
    "The GPU has no room for a training step: … at a time from here on, which takes longer and learns the same."
)
LEARNS_THE_SAME = "the training goes on and learns the same"
SAME_NUMBERS = "it goes on and gives the same numbers"
MEMORY = {
    **{
        f"no room for the {room} of a step of {kind.__name__}": Fault(
            trains_the_same(kind, room), LESS_AT_A_TIME, LEARNS_THE_SAME
        )
        for kind, room in (
            (CoOp, "prompts"),
            (CoCoOp, "prompts"),
            (MaPLe, "prompts"),
            (MaPLe, "pictures"),
            (VPT, "pictures"),
            (PromptSRC, "pictures"),
        )
    },
    "no room for the gradient of a step": Fault(the_gradient_has_no_room, LESS_AT_A_TIME, LEARNS_THE_SAME),
    "no room for a step, however small": Fault(
        there_is_no_room_at_all,
        "The GPU has no room for a training step, one at a time: end what else runs there, load models with",
        "the prompt as it was before the step",
    ),
    "no room for all pictures to encode": Fault(
        few_pictures_fit,
        "The GPU has no room for emoji-student-vit's pictures: 2 at a time from here on.",
        SAME_NUMBERS,
    ),
    "no room for all names to encode": Fault(
        few_names_fit, "The GPU has no room for emoji-student-vit's names: 2 at a time from here on.", SAME_NUMBERS
    ),
    "no room for all pictures to name": Fault(
        few_answers_fit, "The GPU has no room for naming pictures: 2 at a time from here on.", SAME_NUMBERS
    ),
    "no room for a model": Fault(
        the_model_does_not_fit,
        "emoji-student-vit does not fit into the memory of the GPU: give a smaller one, 'bf16', or the 'cpu'.",
        "everything else",
    ),
}


@pytest.mark.parametrize("case", MEMORY)
def test_what_a_gpu_has_no_room_for_is_done_in_parts(case, desk):
    check(case, MEMORY, desk)


# --- interrupts and clocks -------------------------------------------------------------------------------------------


def cell(vlm: kd.VLM, kept: Checkpoint | None = None, interrupt_at: int | None = None) -> tuple[kd.Learner, kd.History]:
    """What a notebook's cell does: CoOp for six steps, in which somebody may press the button with the square."""
    learner, steps = CoOp(vlm), []
    features = torch.nn.functional.normalize(torch.randn((8, 128), generator=torch.Generator().manual_seed(1)), dim=-1)
    labels = torch.arange(8) % 4

    def loss(rows: torch.Tensor) -> torch.Tensor:
        if len(steps) == interrupt_at:
            signal.raise_signal(signal.SIGINT)
        steps.append(rows)
        return torch.nn.functional.cross_entropy(learner(features[rows], NAMES[:4]), labels[rows])

    recipe = kd.Recipe(epochs=3, batch_size=4, lr=0.1, warmup_epochs=0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        history = kd.fit(learner, loss, 8, recipe, progress=False, checkpoint=kept)
    except KeyboardInterrupt:
        assert learner.prompt.ctx.isfinite().all() and not torch.equal(learner.prompt.ctx, CoOp(vlm).prompt.ctx)
        return learner, None
    finally:
        signal.signal(signal.SIGINT, before)
    return learner, history


def the_button_with_the_square(desk: Desk) -> None:
    """The cell is stopped in its fourth step, and run again: as if nothing had been."""
    whole, history = cell(desk.vlm)
    threads = threading.enumerate()
    stopped, none = cell(desk.vlm, interrupt_at=3)
    assert none is None and threading.enumerate() == threads
    again, its_history = cell(desk.vlm)
    assert torch.equal(again.prompt.ctx, whole.prompt.ctx) and its_history == history


def the_button_with_a_checkpoint(desk: Desk) -> None:
    whole, history = cell(desk.vlm)
    desk.patch.setattr("kdpl_utils.support.checkpoint.KEEP_SECONDS", 0.0)
    path = desk.folder / "state.safetensors"
    cell(desk.vlm, path, interrupt_at=3)
    assert path.is_file()
    goes_on, its_history = cell(desk.vlm, path, interrupt_at=3)  # in its sixth step, that is: never
    assert torch.equal(goes_on.prompt.ctx, whole.prompt.ctx) and its_history == history and not path.exists()


def a_clock_goes_backwards(desk: Desk) -> None:
    """Every time that is asked for lies before the last one: states are kept, locks are given back, files are whole."""
    whole, history = cell(desk.vlm)
    now = [2e9]

    def time_that_runs_backwards() -> float:
        now[0] -= 1000
        return now[0]

    desk.patch.setattr("time.time", time_that_runs_backwards)
    desk.patch.setattr("kdpl_utils.support.checkpoint.KEEP_SECONDS", 0.0)
    kept, keep = [], Checkpoint.keep
    desk.patch.setattr(Checkpoint, "keep", lambda *given: kept.append(1) or keep(*given))
    found, its_history = cell(desk.vlm, desk.folder / "state.safetensors")
    assert len(kept) == 6, "one after each step"
    assert torch.equal(found.prompt.ctx, whole.prompt.ctx) and its_history == history
    cache = FeatureCache(desk.folder / "cache")
    for _ in range(2):
        assert cache.tensor(("m", "a"), 3, lambda rows: torch.arange(3.0)).tolist() == [0, 1, 2]
    assert not list(desk.folder.rglob("*.part")) and not list(desk.folder.rglob("*.holder"))


STOPPED = {
    "a notebook's cell is interrupted": Fault(
        the_button_with_the_square, (), "the prompt after its last whole step; the same cell run again learns the same"
    ),
    "a notebook's cell with a checkpoint is interrupted": Fault(
        the_button_with_a_checkpoint, (), "the state of the last whole step, from where the same cell goes on"
    ),
    "the clock is set back while it trains": Fault(a_clock_goes_backwards, (), "everything: no result asks the clock"),
}


@pytest.mark.parametrize("case", STOPPED)
def test_interrupts_and_clocks_change_no_number(case, desk):
    check(case, STOPPED, desk)


# --- networks and archives -------------------------------------------------------------------------------------------


class BreaksOff(BaseHTTPRequestHandler):
    """Promises a thousand bytes and hangs up after twenty."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"LabelName,DisplayNam")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextmanager
def local_server(desk: Desk) -> Iterator[str]:
    """The address of a server of this machine's own."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        desk.patch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), BreaksOff) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def a_dictionary_breaks_off(desk: Desk) -> None:
    with local_server(desk) as address:
        desk.patch.setattr(dictionaries, "OPEN_IMAGES", f"{address}/{dictionaries.OPEN_IMAGES_FILE}")
        with pytest.raises(FileNotFoundError) as caught:
            kd.load_world("emoji/activities", desk.folder, dictionary="open_images")
    assert list(desk.folder.iterdir()) == []
    raise caught.value


def a_data_set_breaks_off(desk: Desk) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    known = datasets.DATASETS["eurosat"]
    with local_server(desk) as address:

        def fetch(root: Path) -> None:
            place, wanted = root / "eurosat", "c8fa014336c82ac7804f0398fcb19387"
            download_and_extract_archive(f"{address}/EuroSAT.zip", place, md5=wanted)

        desk.patch.setitem(datasets.DATASETS, "eurosat", replace(known, fetch=fetch))
        with pytest.raises(FileNotFoundError) as caught:
            kd.load_world("eurosat", desk.folder)
    assert not (desk.folder / "eurosat").exists()
    raise caught.value


def data_set_without(error: Exception) -> Callable[[Desk], None]:
    """A data set whose fetching fails like this."""

    def happens(desk: Desk) -> None:
        def fetch(root: Path) -> None:
            (root / "eurosat" / "half").write_bytes(b"half")
            raise error

        desk.patch.setitem(datasets.DATASETS, "eurosat", replace(datasets.DATASETS["eurosat"], fetch=fetch))
        try:
            kd.load_world("eurosat", desk.folder)
        finally:
            assert not (desk.folder / "eurosat").exists()

    return happens


def weights_without(error: Exception) -> Callable[[Desk], None]:
    def happens(desk: Desk) -> None:
        def create(*given, **how):
            raise error

        desk.patch.setattr("open_clip.create_model_and_transforms", create)
        kd.load_vlm("RN50-quickgelu", "openai", device="cpu")

    return happens


def outside(desk: Desk) -> Path:
    """A tar file of pictures that want to lie elsewhere."""
    content = io.BytesIO()
    PICTURES[0].save(content, "PNG")
    path = desk.folder / "inside" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name in ("../outside.png", f"{desk.folder}/absolute.png", "good.png"):
            info = tarfile.TarInfo(name)
            info.size = len(content.getvalue())
            archive.addfile(info, io.BytesIO(content.getvalue()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def pictures_outside(desk: Desk) -> None:
    """Tar files are read and never unpacked; a link in one is no picture."""
    path = outside(desk)
    assert len(tar_pictures(path)) == len(list(Shards(path))) == 3
    assert [image.size for image in folder_world(path, dictionary=["tree"]).train.images] == [(64, 64)] * 3
    assert sorted(one.name for one in desk.folder.rglob("*")) == ["a.tar", "inside"]


def a_data_set_of_somebody_else(desk: Desk) -> None:
    """An archive with the right name and another content, with a path that leads out of its folder."""
    place = desk.folder / "eurosat"
    place.mkdir()
    with zipfile.ZipFile(place / "EuroSAT.zip", "w") as archive:
        archive.writestr("../../outside.txt", "mine")
        archive.writestr("2750/Forest/Forest_1.jpg", "mine")
    desk.patch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(urllib.error.URLError("away")))
    try:
        kd.load_world("eurosat", desk.folder)
    finally:
        found = {one.relative_to(desk.folder).as_posix() for one in desk.folder.rglob("*")}
        assert not any("outside" in one or "2750" in one for one in found)


PUT_THERE = "eurosat is not in … and could not be fetched: put …/EuroSAT.zip in …/eurosat and load it again."
NOTHING_HALF = "nothing: no half of it lies in its place"
NETWORK = {
    "a dictionary breaks off half-way": Fault(
        a_dictionary_breaks_off,
        "oidv7-class-descriptions.csv is missing and could not be fetched: put",
        NOTHING_HALF,
    ),
    "a data set breaks off half-way": Fault(a_data_set_breaks_off, PUT_THERE, NOTHING_HALF),
    **{
        f"a data set is fetched, and {what}": Fault(data_set_without(error), PUT_THERE, NOTHING_HALF)
        for what, error in (
            ("there is no network", urllib.error.URLError("Name or service not known")),
            ("the other side hangs up", ConnectionResetError(104, "Connection reset by peer")),
            ("the answer is not whole", IncompleteRead(b"half", 100)),
            ("nothing comes any more", TimeoutError("timed out")),
            ("its checksum is another", RuntimeError("File not found or corrupted.")),
        )
    },
    "a data set is fetched, and the disk is full": Fault(
        data_set_without(OSError(28, "No space left on device")),
        "There is no room left on the disk of … to fetch eurosat: make some and load it again.",
        NOTHING_HALF,
    ),
    **{
        f"weights are fetched, and {what}": Fault(
            weights_without(error),
            "The weights 'openai' of RN50-quickgelu are not on this machine and could not be downloaded. Fetch",
            "everything else",
        )
        for what, error in (
            ("there is no network", urllib.error.URLError("Name or service not known")),
            ("the hub does not answer", FileNotFoundError("Failed to download file (a.bin) for timm/a. Last error: b")),
            ("the answer is not whole", IncompleteRead(b"half", 100)),
            ("the other side hangs up", ConnectionResetError(104, "Connection reset by peer")),
        )
    },
    "a tar file of pictures with paths that lead out of it": Fault(
        pictures_outside, (), "the disk: pictures are read where they are, nothing is unpacked"
    ),
    "a data set's archive with another content": Fault(
        a_data_set_of_somebody_else, PUT_THERE, "the disk: nothing of it is unpacked"
    ),
}


@pytest.mark.parametrize("case", NETWORK)
def test_what_comes_from_elsewhere_is_whole_or_not_there(case, desk):
    check(case, NETWORK, desk)


# --- packages --------------------------------------------------------------------------------------------------------


def without(module: str, use: Callable[[Desk], object]) -> Callable[[Desk], None]:
    """Something that needs a package, where it is not installed."""

    def happens(desk: Desk) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == module.split(".")[0]]:
            desk.patch.delitem(sys.modules, name)
        desk.patch.setitem(sys.modules, module.split(".")[0], None)
        desk.patch.setitem(sys.modules, module, None)
        use(desk)

    return happens


def a_page_of_colab(desk: Desk) -> None:
    desk.patch.setattr("kdpl_utils.support.extras.version", lambda package: "7.6.5")
    importlib.reload(importlib.import_module("kdpl_utils.widgets.explorer"))


def one_run() -> list:
    return [(job, [evaluation]) for job, evaluation in plan("few-shot", "emoji", "coop", "labels", 1, 4)[:1]]


def adapt_with_onnx(desk: Desk) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdpl_utils.apps.adapt.folder_world", lambda *_, **__: pytest.fail("a picture was looked at"))
        adapt_folder(desk.folder, desk.folder / "out", ["a", "b"], onnx=True)


PACKAGES = {
    "no webdataset": Fault(
        without("webdataset", lambda desk: list(Shards("https://example.org/a.tar"))),
        "This needs webdataset: pip install webdataset, or 'kdpl-notebooks[stream]'.",
        "local shards are read without it",
    ),
    "no submitit": Fault(
        without("submitit", lambda desk: list(on_cluster(one_run(), desk.folder, None, 1, "local", {}, print))),
        "This needs submitit: pip install submitit, or 'kdpl-notebooks[cluster]'.",
        "runs on this machine go without it",
    ),
    "no onnx": Fault(
        without("onnx", adapt_with_onnx),
        "This needs onnx: pip install onnx, or 'kdpl-notebooks[onnx]'.",
        "no picture was looked at, nothing is written",
    ),
    "no medmnist": Fault(
        without("medmnist", lambda desk: kd.load_world("pathmnist", desk.folder)),
        "This needs medmnist: pip install medmnist, or 'kdpl-notebooks[data]'.",
        "everything else",
    ),
    "an ipywidgets that is too old": Fault(
        a_page_of_colab,
        "This needs ipywidgets 7.7.1 or newer, and 7.6.5 is here: pip install --upgrade ipywidgets.",
        "everything but explorers",
    ),
}


@pytest.mark.parametrize("case", PACKAGES)
def test_a_package_that_is_missing_is_named(case, desk):
    check(case, PACKAGES, desk)
    assert not [path for path in desk.folder.iterdir() if not path.name.startswith(".")]


# --- other processes -------------------------------------------------------------------------------------------------


def fill_cache(folder: Path, me: int, gate: multiprocessing.synchronize.Barrier) -> None:
    """As one of two processes: notes the parts that it made, and that it got the whole."""
    cache_module.PART = 4

    def make(rows: range) -> torch.Tensor:
        with open(folder.parent / "made.txt", "a") as notes:
            notes.write(f"{me} {rows.start}\n")
        time.sleep(0.05)
        return torch.arange(rows.start, rows.stop).float()[:, None]

    gate.wait(20)
    whole = FeatureCache(folder).tensor(("m", "a"), 24, make)
    assert whole[:, 0].tolist() == list(range(24))


def two_fill_one_cache(desk: Desk) -> None:
    fork = multiprocessing.get_context("fork")
    gate = fork.Barrier(2)
    both = [fork.Process(target=fill_cache, args=(desk.folder / "cache", me, gate)) for me in (1, 2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    made = [line.split() for line in (desk.folder / "made.txt").read_text().splitlines()]
    assert sorted(int(part) for _, part in made) == [0, 4, 8, 12, 16, 20] and {who for who, _ in made} == {"1", "2"}
    assert not list((desk.folder / "cache").glob(".*")) and not list((desk.folder / "cache").glob("*.begun"))


def one_of_two_is_killed(desk: Desk) -> None:
    """While it makes a part: its lock falls, and the other one makes that part as well."""
    fork = multiprocessing.get_context("fork")

    def make_and_die(rows: range) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)

    killed = fork.Process(target=FeatureCache(desk.folder).tensor, args=(("m", "a"), 3, make_and_die))
    killed.start()
    killed.join(30)
    assert killed.exitcode == -signal.SIGKILL
    assert FeatureCache(desk.folder).tensor(("m", "a"), 3, lambda rows: torch.ones(3)).tolist() == [1, 1, 1]


PROCESSES = {
    "two processes fill one cache": Fault(two_fill_one_cache, (), "each part is made once, and both have the whole"),
    "one of two is killed while it fills the cache": Fault(
        one_of_two_is_killed, (), "what was complete; the other one makes the rest"
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("case", PROCESSES)
def test_processes_share_a_cache(case, desk):
    check(case, PROCESSES, desk)


PAGE = {
    "A GPU without room": MEMORY,
    "Interrupts and clocks": STOPPED,
    "Networks and archives": NETWORK,
    "Packages": PACKAGES,
    "Other processes": PROCESSES,
}
