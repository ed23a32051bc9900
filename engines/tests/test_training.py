"""What training is made of: losses, and networks that lose their gates. Needs PyTorch and timm."""

import pathlib
import tomllib
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")
cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

import prune
import train
from vcount import folding, networks, training

RECIPE = {"backbone": "mobilenetv3_small_050", "width": 16}


def test_without_gates_a_network_counts_as_before_where_the_gates_were_steady():
    torch.manual_seed(1)
    network = networks.DensityNetwork(RECIPE).eval()
    plain = networks.DensityNetwork({**RECIPE, "squeeze-excitation": False}).eval()
    assert networks.gated(network.backbone) and not networks.gated(plain.backbone)
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        before = network.decoder(network.features(image))
        networks.fold_gates(network, [image])
        after = network.decoder(network.features(image))
    # Gates of one picture, folded, are those of that picture.
    assert torch.allclose(before, after, atol=1e-4)
    assert not networks.gated(network.backbone)
    plain.load_state_dict(network.state_dict())


def test_training_starts_from_a_checkpoint_with_gates_and_one_without(tmp_path):
    pictures = [np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)]
    gated, plain = (
        networks.DensityNetwork(RECIPE),
        networks.DensityNetwork({**RECIPE, "squeeze-excitation": False}),
    )
    torch.save({"network": gated.state_dict(), "recipe": RECIPE}, tmp_path / "gated.pt")
    train.take(plain, networks.load(tmp_path / "gated.pt")[0], [types.SimpleNamespace()], pictures)
    again = networks.DensityNetwork(RECIPE)
    train.take(again, networks.load(tmp_path / "gated.pt")[0], [types.SimpleNamespace()], pictures)
    assert all(
        (one == other).all()
        for one, other in zip(again.state_dict().values(), gated.state_dict().values())
    )
    # The stem has no gate behind it.
    assert (plain.backbone.conv_stem.weight == gated.backbone.conv_stem.weight).all()
    # Back with gates: they are open, and nothing else has changed.
    torch.save(
        {"network": plain.state_dict(), "recipe": {**RECIPE, "squeeze-excitation": False}},
        tmp_path / "plain.pt",
    )
    start, _ = networks.load(tmp_path / "plain.pt")
    train.take(again, start, [types.SimpleNamespace()], pictures)
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        one, other = (network.eval()(image) for network in (again, start))
    assert networks.gated(again.backbone) and torch.allclose(one, other, atol=1e-5)


def test_efficientnet_b0_starts_as_the_trained_efficientnet_lite0_with_gates():
    folder = pathlib.Path(__file__).parent.parent / "recipes"
    lite0, b0 = (
        tomllib.loads((folder / f"efficientnet-{name}.toml").read_text())
        for name in ("lite0", "b0")
    )
    before, network = (networks.DensityNetwork(recipe).eval() for recipe in (lite0, b0))
    # Statistics of batch normalisation as after training, not all alike.
    for module in before.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    train.take(network, before, [], [])
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        assert torch.allclose(network(image), before(image), atol=1e-6)
        # Gates that are trained do something.
        networks.gated(network.backbone)[3].se.conv_expand.bias.fill_(-1.0)
        assert not torch.allclose(network(image), before(image), atol=1e-4)


def test_a_network_without_gates_starts_from_imagenet_weights_with_them(
    tmp_path, monkeypatch, capsys
):
    pictures, samples = (
        [np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)],
        [types.SimpleNamespace()],
    )
    recipe = {**RECIPE, "squeeze-excitation": False, "activation": "relu6", "pretrained": True}
    published = timm.create_model(RECIPE["backbone"])
    torch.save(published.state_dict(), tmp_path / "imagenet.pth")

    plain = networks.DensityNetwork(recipe)
    assert train.from_imagenet(
        plain, {**recipe, "weights": str(tmp_path / "imagenet.pth")}, samples, pictures
    )
    assert (plain.backbone.conv_stem.weight == published.conv_stem.weight).all()
    # Behind a gate, which is about a half before training, weights are smaller by it.
    share = plain.backbone.blocks[0][0].conv_pw.weight / published.blocks[0][0].conv_pw.weight
    assert 0 < share.min() and share.max() < 1

    # As where no hub can be reached.
    def unreachable(*_arguments, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return create(*_arguments, **options)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", unreachable)
    assert not train.from_imagenet(plain, recipe, samples, pictures)
    assert (
        "no pre-trained weights for mobilenetv3_small_050 (OSError): starting from scratch"
        in capsys.readouterr().out
    )
    assert not train.from_imagenet(plain, {**recipe, "pretrained": False}, samples, pictures)


def counter_of_its_own_kind(folder, seed, **settings):
    """A network, and a counter of the same weights that it could follow, as `settings` of its
    training say."""
    torch.manual_seed(seed)
    loss = {"density": 1.0, "blocks": 1.0, "count": 0.5}
    recipe = {**RECIPE, "train": {"loss": loss, **settings}}
    network = networks.DensityNetwork(recipe).eval()
    torch.save({"network": network.state_dict(), "recipe": recipe}, folder / "counter.pt")
    return network, train.Counter(folder / "counter.pt", recipe, network.channels).train()


@pytest.mark.parametrize(
    ("recipe", "changed", "distill", "until"),
    [
        ({"train": {}}, {}, 1.0, 1.2),
        ({"train": {"distill": 0.4, "distill-until": 0.6}}, {}, 0.4, 0.6),
        ({"train": {"distill": 0.4}}, {}, 0.4, 1.2),
        # What is told of an ImageNet teacher says nothing of a counter.
        ({"train": {"distill": 0.5}, "distill": {"teacher": "resnet18"}}, {}, 1.0, 1.2),
        (
            {"train": {"distill": 0.3}, "distill": {"teacher": "resnet18"}},
            {"train.distill"},
            0.3,
            1.2,
        ),
    ],
)
def test_a_counter_is_followed_by_a_recipe_that_does_not_say_how(recipe, changed, distill, until):
    train.follow(recipe, changed)
    assert recipe["train"]["distill"] == distill and recipe["train"]["distill-until"] == until


@pytest.mark.parametrize(
    "path",
    sorted((pathlib.Path(__file__).parent.parent / "recipes").glob("*.toml")),
    ids=lambda path: path.stem,
)
def test_every_recipe_follows_a_counter_to_the_end_without_labels(path):
    recipe = tomllib.loads(path.read_text())
    recipe["train"]["labels"] = 0.0
    train.follow(recipe, {"train.labels"})
    assert recipe["train"]["distill"] == 1.0 and recipe["train"]["distill-until"] > 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"distill": 0.0, "labels": 0.0}, "train.distill .*is 0: the --counter would not"),
        ({"distill": 0}, "train.distill .*is 0: the --counter would not"),
        ({"distill-until": 0.0}, "distill-until is 0"),
        ({"distill-until": 0.7, "labels": 0.0}, "silent after 0.7 of the steps"),
    ],
)
def test_a_counter_that_would_not_be_heard_is_refused(settings, reason):
    with pytest.raises(SystemExit, match=reason):
        train.follow({"train": settings}, {f"train.{key}" for key in settings})


def test_labels_correct_a_counter_where_they_are_believed(tmp_path):
    network, counter = counter_of_its_own_kind(tmp_path, 3)
    images = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        features = network.features(images)
        fused = network.decoder(features)
        told = (network.count(fused) + network(images.flip(3)).flip(3)) / 2
        # What the counter sees in the left half is no vehicle.
        left = torch.zeros_like(told)
        left[..., : left.shape[-1] // 2] = 1
        nothing = torch.zeros_like(told)

        def loss(density, known):
            return float(counter(images, features, fused, density, known))

        assert loss(told, (nothing, left)) > loss(told, (nothing, nothing)) + 0.01
        assert loss(told * (1 - left), (nothing, left)) == pytest.approx(
            loss(told, (nothing, nothing))
        )


def test_a_counter_need_not_look_at_mirror_images(tmp_path):
    network, counter = counter_of_its_own_kind(tmp_path, 3, mirror=False)
    images = torch.rand(2, 3, 64, 64) * 255
    unknown = torch.zeros(2, 1, 8, 8)
    with torch.no_grad():
        features = network.features(images)
        fused = network.decoder(features)
        once = network.count(fused)
        twice = (once + network(images.flip(3)).flip(3)) / 2
        one, other = (
            float(counter(images, features, fused, density, (unknown, unknown)))
            for density in (once, twice)
        )
    assert one < other


def test_a_counter_is_followed_where_it_agrees_with_itself():
    one, other = torch.zeros(2, 1, 8, 10), torch.zeros(2, 1, 8, 10)
    # Of the first picture, the upper left block holds a vehicle for one look alone; all other
    # blocks are empty, or nearly agree.
    one[0, 0, :4, :4] = 1 / 16
    one[1, 0, 4:, 4:8], other[1, 0, 4:, 4:8] = 2.0 / 16, 1.6 / 16
    agree = train.agreement(one, other)
    assert agree.shape == one.shape
    disagreed = torch.zeros_like(agree)
    disagreed[0, 0, :4, :4] = 1
    assert torch.equal(agree, 1 - disagreed)


def test_a_counter_looks_closer_and_the_mean_of_both_looks_is_followed(tmp_path):
    network, counter = counter_of_its_own_kind(tmp_path, 4)
    closer = torch.rand(1, 3, 96, 192) * 255
    target, labelled = torch.rand(1, 1, 12, 24), torch.ones(1, 1, 12, 24)
    images, small_target, small_labelled = train.shrink(closer, target, labelled, 1.5)
    assert images.shape == (1, 3, 64, 128) and small_target.shape == (1, 1, 8, 16)
    assert float(small_target.sum()) == pytest.approx(float(target.sum()), rel=1e-5)
    assert torch.allclose(small_labelled, torch.ones_like(small_labelled), atol=1e-5)
    with torch.no_grad():
        features = network.features(images)
        fused = network.decoder(features)
        one = network.count(fused)
        # Each cell of the small grid holds two and a quarter of the large one.
        other = training.regrid(network(closer.flip(3)).flip(3), one.shape[2:])
        assert float(other.sum()) == pytest.approx(float(network(closer.flip(3)).sum()), rel=1e-5)
        told = (one + other) / 2
        agreed = float(counter(images, features, fused, one))
        assert float(counter(images, features, fused, told, None, closer)) == pytest.approx(
            agreed, rel=1e-5
        )
        assert float(counter(images, features, fused, one, None, closer)) > agreed + 1e-4


def test_a_cell_s_density_goes_where_the_cell_lies():
    density = torch.zeros(1, 1, 3, 3)
    density[0, 0, 0, 1] = 1.0
    # The middle third of the first row lies half in either column of two, and wholly in the first
    # row.
    assert torch.allclose(
        training.regrid(density, (2, 2)), torch.tensor([[[[0.5, 0.5], [0.0, 0.0]]]])
    )


def test_the_mean_of_checkpoints_is_taken_only_where_they_are_alike(tmp_path):
    networks_ = [networks.DensityNetwork(RECIPE) for _ in range(2)]
    paths = [tmp_path / f"{number}.pt" for number in range(2)]
    for network, path in zip(networks_, paths):
        torch.save({"network": network.state_dict(), "recipe": RECIPE}, path)
    mean, _ = networks.load(*paths)
    one, other = (network.head[0][0].weight for network in networks_)
    assert torch.allclose(mean.head[0][0].weight, (one + other) / 2)
    torch.save(
        {"network": networks.DensityNetwork({**RECIPE, "width": 8}).state_dict(), "recipe": RECIPE},
        paths[1],
    )
    with pytest.raises(SystemExit, match="1.pt: not of the recipe that .*0.pt has"):
        networks.load(*paths)


def test_transport_pulls_what_is_counted_to_where_the_vehicles_are():
    target = torch.zeros(2, 16, 16)
    target[0, 4, 4] = 1
    density = torch.full((2, 16, 16), 1e-6)
    density[0, 4, 9] = 1
    density[1, 8, 8] = 1
    density.requires_grad_()
    training.transport_loss(density, target).backward()
    slope = density.grad[0, 4]
    # Ever cheaper from where it is counted to the vehicle: along the gradient it moves there.
    assert (slope[4:9] < slope[5:10]).all()
    # A picture without vehicles has nowhere to move to.
    assert not density.grad[1].any()
    assert (
        not training.transport_loss(density[1:], target[1:]).requires_grad
        or training.transport_loss(density[1:], target[1:]).item() == 0
    )


def test_padding_of_networks_from_tensorflow_becomes_part_of_the_convolutions(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")

    network = networks.DensityNetwork({"backbone": "tf_efficientnet_lite0", "width": 16}).eval()
    images = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        before = network.decoder(network.features(images))
        folding.fix_padding(folding.fold(network))
        assert torch.allclose(before, network.decoder(network.features(images)), atol=1e-4)
    path = tmp_path / "tiny.onnx"
    torch.onnx.export(network.backbone, (images,), str(path), opset_version=17, dynamo=False)
    nodes = onnx.load(path).graph.node
    assert not any(node.op_type == "Pad" for node in nodes)
    # Strides of 2 are padded at one side more than at the other.
    pads = [
        list(attribute.ints)
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "pads"
    ]
    assert [0, 0, 1, 1] in pads and [1, 1, 2, 2] in pads


def test_a_pruned_network_answers_as_its_teacher_where_it_has_room():
    torch.manual_seed(2)
    means = {"mean": [127.5] * 3, "std": [127.5] * 3, "width": 16}
    teacher = networks.DensityNetwork({"backbone": "tf_efficientnet_lite0", **means}).eval()
    images = [
        torch.nn.functional.interpolate(torch.rand(2, 3, 12, 12) * 255, size=96, mode="bilinear")
        for _ in range(4)
    ]
    with torch.no_grad():
        # Statistics as after training.
        for module in teacher.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        teacher.train()
        teacher(torch.cat(images))
        teacher.eval()

    # As deep and wide: nothing is lost, whatever the order of channels.
    same = networks.DensityNetwork({"backbone": "tf_efficientnet_lite0", **means})
    assert min(explained for _, explained in prune.prune(teacher, same, images)) > 0.99
    with torch.inference_mode():
        assert torch.allclose(same(images[0]), teacher(images[0]), atol=2e-3)

    small = {
        "backbone": "mobilenetv3_large_100",
        "backbone-options": {"pad_type": "same"},
        "squeeze-excitation": False,
        "activation": "relu6",
        **means,
    }
    student = networks.DensityNetwork(small)
    told = dict(prune.prune(teacher, student, images))
    assert told["stem"] < 1 and told["lateral 2"] > 0.5 and "blocks.3.3" in told
    with torch.inference_mode():
        wanted, fused = (
            network.decoder(network.features(images[1])) for network in (teacher, student)
        )
    assert ((wanted - fused) ** 2).sum() < 0.7 * (
        (wanted - wanted.mean((0, 2, 3), keepdim=True)) ** 2
    ).sum()

    # MobileNetV3-Small has a stage less: its first follows two. Large ends in a single convolution,
    # from which small takes what the decoder reads.
    smaller = networks.DensityNetwork({**small, "backbone": "mobilenetv3_small_100"})
    told = dict(prune.prune(student, smaller, images))
    assert told["lateral 2"] > 0.4 and "blocks.4.2" in told and "blocks.5.0" not in told
    large = {tuple(row.flatten().tolist()) for row in student.backbone.blocks[6][0].conv.weight}
    small_end = smaller.backbone.blocks[5][0].conv.weight
    assert small_end.shape[1] < student.backbone.blocks[6][0].conv.weight.shape[1]
    assert all(
        any(set(row.flatten().tolist()) <= set(other) for other in large) for row in small_end[::97]
    )
    with pytest.raises(SystemExit, match="the smaller network has 7 stages, the larger one 6"):
        next(prune.prune(smaller, student, images))

    with pytest.raises(SystemExit, match="squeeze-excitation = false"):
        next(
            prune.prune(
                teacher,
                networks.DensityNetwork({"backbone": "mobilenetv3_large_100", **means}),
                images,
            )
        )


def test_fewer_blocks_follow_several_each_and_more_follow_what_is_left():
    assert prune.pairs(3, 3) == [[0], [1], [2]]
    assert prune.pairs(2, 3) == [[0], [1, 2]]
    assert prune.pairs(3, 4) == [[0], [1, 2], [3]]
    assert prune.pairs(4, 3) == [[0], [1], [2], [1, 2]]
    assert prune.pairs(1, 1) == [[0]]
    with pytest.raises(SystemExit, match="cannot follow"):
        prune.pairs(1, 3)
