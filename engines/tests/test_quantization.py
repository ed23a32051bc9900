"""What int8 is made of: calibration in groups, floors, and the trained graph. Needs PyTorch, timm
and onnxruntime."""

import pathlib
import tomllib
import types

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("cv2", reason="OpenCV is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import floor
import qat
import quantize
from vcount import data, engines, folding, networks, qdq

RECIPE = {"name": "tiny", "backbone": "mobilenetv3_small_050", "width": 16}


def samples(folder, number):
    """Pictures of noise from three scenes, each with a vehicle."""
    random = np.random.default_rng(3)
    made = []
    for index in range(number):
        file = folder / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (64, 96, 3), np.uint8)).save(file)
        made.append(
            data.Sample(
                file, 96, 64, np.array([[10, 10, 20, 12]], np.float32), f"s{index % 3}", "train"
            )
        )
    return made


def exported(path, seed=1, recipe=RECIPE):
    """A network with its batch normalisation folded, as a file that any size fits."""
    torch.manual_seed(seed)
    network = networks.DensityNetwork(recipe).eval()
    with torch.no_grad():
        # As after training: a fresh network answers the same everywhere, and its biases are all
        # alike.
        torch.nn.init.normal_(network.head[-1].weight, std=0.3)
        torch.nn.init.constant_(network.head[-1].bias, 0.5)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.weight, 1.0, 0.1)
                torch.nn.init.normal_(module.bias, std=0.2)
        folding.fix_padding(folding.fold(network))
        folding.write(network, torch.rand(1, 3, 64, 96) * 255, path)
    return path


def quantized(folder, recipe=RECIPE, method="percentile", pictures=12):
    """The files of a network in FP32 and in int8."""
    fp32, int8 = exported(folder / "tiny.onnx", recipe=recipe), folder / "tiny-int8.onnx"
    options = types.SimpleNamespace(
        model=fp32, pictures=pictures, sizes=[64, 96], method=method, percentile=99.99, keep=None
    )
    quantize.quantize(options, samples(folder, pictures), int8)
    return fp32, int8


RECIPES = sorted((pathlib.Path(__file__).parent.parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_s_int8_file_can_be_trained(tmp_path, path):
    recipe = tomllib.loads(path.read_text()) | {"width": 16}
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), np.uint8)
    planes = torch.from_numpy(engines.planes(image))
    # Ranges of the least and the largest: the quickest to find.
    fp32, int8 = quantized(tmp_path, recipe, "minmax", 4)
    teacher = qat.Graph(onnx.load(fp32), fp32).requires_grad_(False)
    student = qat.Graph(onnx.load(int8), int8)
    wanted, density = teacher(planes), student(planes)
    # Roundings that fall to the other side add up in int8.
    for told, file, alike in ((wanted, fp32, 0.9999), (density, int8, 0.95)):
        there = engines.load(file, 96, 64, "onnxruntime")(image)
        assert told.shape == there.shape == (2, 1, 8, 12) and there.sum() > 0.1
        assert np.corrcoef(told.detach().numpy().ravel(), there.ravel())[0, 1] > alike
    ((density - wanted) ** 2).sum().backward()
    slopes = [value.grad for value in student.parameters()]
    assert all(slope is None or slope.isfinite().all() for slope in slopes)
    still = [name for name, value in student.trained.items() if not torch.any(value.grad)]
    assert len(still) < 0.2 * len(slopes), still
    torch.optim.Adam(student.parameters(), 1e-4).step()
    trained = tmp_path / "trained.onnx"
    onnx.save(student.model(), trained)
    qdq.check(onnx.load(trained))
    after = engines.load(trained, 96, 64, "onnxruntime")(image)
    assert after.shape == (2, 1, 8, 12) and np.abs(after - there).max() > 0


def test_an_operation_that_cannot_be_trained_is_named(tmp_path):
    model = onnx.load(exported(tmp_path / "tiny.onnx"))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Selu"
    with pytest.raises(SystemExit, match=rf"tiny.onnx: .*Selu \({relu.name}\).*operations.py"):
        qat.Graph(model, tmp_path / "tiny.onnx")


def test_calibration_takes_pictures_in_groups_of_one_size_and_leaves_none_over(tmp_path):
    pictures = quantize.Pictures(samples(tmp_path, 27), 25, [64, 96])
    assert len(pictures) == 20 and pictures.at_once == 10
    sides = []
    for begin in range(0, len(pictures), pictures.at_once):
        pictures.set_range(begin, begin + pictures.at_once)
        group = list(iter(pictures.get_next, None))
        sides.append({tuple(entry["images"].shape[2:]) for entry in group})
        assert len(group) == 10
    assert sides == [{(64, 64)}, {(96, 96)}]
    # Few pictures are one group.
    assert quantize.Pictures(samples(tmp_path, 4), 128, [64]).at_once == 4


def test_what_an_activation_cuts_off_is_not_rounded_before_it(tmp_path):
    _, int8 = quantized(tmp_path)
    nodes = onnx.load(int8).graph.node
    readers = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    activated = [
        node
        for node in nodes
        if node.op_type == "Conv" and {"Relu", "HardSwish"} & set(readers.get(node.output[0], []))
    ]
    assert len(activated) > 10 and all(
        "QuantizeLinear" not in readers[node.output[0]] for node in activated
    )
    # Yet every convolution but the last reads int8.
    sources = {output: node.op_type for node in nodes for output in node.output}
    reading = [sources.get(node.input[0]) for node in nodes if node.op_type == "Conv"]
    assert reading.count("DequantizeLinear") == len(reading) - 1


def test_weights_keep_to_what_processors_without_vnni_compute_exactly(tmp_path):
    _, int8 = quantized(tmp_path)
    model = onnx.load(int8)
    most = qdq.bounds(model)
    weights = {
        constant.name: constant for constant in model.graph.initializer if constant.name in most
    }
    largest = {
        name: int(np.abs(onnx.numpy_helper.to_array(weight).astype(int)).max())
        for name, weight in weights.items()
    }
    # Each range is used to its end: depthwise convolutions have the whole of it.
    assert largest == most and set(most.values()) == {64, 127}
    name = next(name for name in most if most[name] == 64)
    wide = onnx.numpy_helper.to_array(weights[name]).copy()
    wide.ravel()[0] = 65
    weights[name].CopyFrom(onnx.numpy_helper.from_array(wide, name))
    with pytest.raises(SystemExit, match="a weight of 65, where 64 is the most"):
        qdq.check(model)


def test_channels_of_nothing_get_steps_that_fp16_holds(tmp_path):
    _, int8 = quantized(tmp_path)
    model = onnx.load(int8)
    node = next(
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and "conv_pw" in node.input[0]
    )
    scale = next(entry for entry in model.graph.initializer if entry.name == node.input[1])
    weight = next(entry for entry in model.graph.initializer if entry.name == node.input[0])
    before, levels = (onnx.numpy_helper.to_array(entry).copy() for entry in (scale, weight))
    dead = before.copy()
    dead[0], dead[1] = 2e-9, quantize.SMALLEST_SCALE / 2
    scale.CopyFrom(onnx.numpy_helper.from_array(dead, scale.name))
    assert quantize.hold_scales(model) == 2 and quantize.hold_scales(model) == 0
    after, kept = (onnx.numpy_helper.to_array(entry) for entry in (scale, weight))
    assert after[:2] == pytest.approx(quantize.SMALLEST_SCALE) and (after[2:] == before[2:]).all()
    assert (
        not kept[0].any()
        and (abs(kept[1] - levels[1] / 2) <= 0.5).all()
        and (kept[2:] == levels[2:]).all()
    )


def test_a_graph_in_pytorch_counts_as_the_file_does_and_goes_back_unchanged(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)
    for path in quantized(tmp_path):
        graph = qat.Graph(onnx.load(path))
        with torch.inference_mode():
            here = graph(torch.from_numpy(engines.planes(image))).numpy()
        there = engines.load(path, 96, 64, "onnxruntime")(image)
        assert there.sum() > 0.5 and here.sum() == pytest.approx(there.sum(), rel=0.02)
        again = tmp_path / "again.onnx"
        onnx.save(graph.model(), again)
        assert engines.load(again, 96, 64, "onnxruntime")(image) == pytest.approx(there, abs=1e-5)


def test_training_the_int8_graph_brings_it_nearer_to_fp32(tmp_path):
    fp32, int8 = quantized(tmp_path)
    model = onnx.load(int8)
    # An int8 file gone wrong: the biases of the head's convolution were rounded far off.
    bias = next(entry for entry in model.graph.initializer if entry.name == "head.0.0.bias")
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.2), bias.name)
    )
    teacher, student = qat.Graph(onnx.load(fp32)).requires_grad_(False), qat.Graph(model)
    images = [
        torch.randint(
            0,
            256,
            (2, 64, 96, 3),
            dtype=torch.uint8,
            generator=torch.Generator().manual_seed(number),
        )
        for number in range(4)
    ]
    turns = iter([(images[turn % 4],) for turn in range(100)])

    def apart():
        with torch.inference_mode():
            planes = [image.permute(0, 3, 1, 2).float() for image in images]
            return sum(float((student(image) - teacher(image)).abs().sum()) for image in planes)

    before = apart()
    options = types.SimpleNamespace(steps=100, learning_rate=5e-3)
    qat.follow(student, teacher, turns, {"density": 1.0, "blocks": 1.0, "count": 0.5}, options)
    assert apart() < before / 2
    qdq.check(student.model())


def test_features_that_the_head_reads_keep_their_whole_range(tmp_path):
    _, int8 = quantized(tmp_path)
    model = onnx.load(int8)
    features = qdq.features(model)
    assert "smooth" in features.input[0]
    scale = next(entry for entry in model.graph.initializer if entry.name == features.input[1])

    def range_of():
        return 127 * float(onnx.numpy_helper.to_array(scale))

    watched = onnx.load(int8)
    watched.graph.output.append(
        onnx.helper.make_tensor_value_info(features.input[0], onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def pictures():
        reader = quantize.Pictures(samples(tmp_path, 12), 12, [64, 96])
        return [picture["images"] for picture in iter(reader.get_next, None)]

    most = max(
        session.run([features.input[0]], {"images": images})[0].max() for images in pictures()
    )
    assert range_of() >= most * 0.999, "as quantize.py leaves it"
    # As percentiles of many pictures do.
    scale.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) / np.float32(2), scale.name)
    )
    assert range_of() < most
    qdq.widen(model, pictures())
    assert range_of() == pytest.approx(most, rel=1e-3)
    # Fewer vehicles elsewhere narrow nothing.
    qdq.widen(model, pictures()[:1])
    assert range_of() == pytest.approx(most, rel=1e-3)

    graph = qat.Graph(model)
    trained = {id(value) for group in graph.groups() for value in group}
    assert id(graph.trained[qat.key(features.input[1])]) not in trained
    assert len(trained) == len(graph.trained) - 1, "training leaves it alone, and nothing else"


def test_int8_that_counts_too_few_gets_the_mean_count_of_fp32(tmp_path):
    fp32, int8 = quantized(tmp_path)
    teacher, student = qat.Graph(onnx.load(fp32)).requires_grad_(False), qat.Graph(onnx.load(int8))
    last = [node for node in student.nodes if node.op_type == "Conv"][-1]
    with torch.no_grad():
        for name in last.input[1:]:
            student.trained[qat.key(name)].mul_(0.9)
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 64, 96, 3), dtype=torch.uint8, generator=random)

    def counted(graph):
        with torch.inference_mode():
            return float(graph(images.permute(0, 3, 1, 2).float()).sum())

    qat.match(student, teacher, iter([(images,)] * 2), batches=2)
    assert counted(student) == pytest.approx(counted(teacher), rel=1e-3)


def test_a_floor_is_taken_where_it_makes_the_error_smaller(tmp_path):
    class Hazy(torch.nn.Module):
        """Sees the one vehicle, and 0.004 vehicles in each of 96 cells."""

        def forward(self, images):
            density = torch.full(
                (len(images), 1, images.shape[2] // 8, images.shape[3] // 8), 0.004
            )
            density[:, :, 1, 1] = 1.004
            return density

    for sample in (some := samples(tmp_path, 3)):
        sample.boxes = np.array([[8, 8, 8, 8]], np.float32)
    errors = floor.errors_of(Hazy(), some, [96])[0]
    assert floor.FLOORS[errors.argmin()] == pytest.approx(0.004)
    assert errors[0] == pytest.approx(0.004 * 144, rel=0.01) and errors.min() < 0.01
