"""Runs a model file or a checkpoint on batches of pictures: uint8 [N, H, W, 3] RGB in, float32 [N,
1, H/8, W/8] out."""

import numpy as np


def planes(images):
    """Batch of RGB pictures as the model takes it."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))


def load(path, width, height, engine="auto", threads=0):
    """A function from pictures to density; its attribute `engine` says what runs it. Shapes are
    static, but for the batch in ONNX Runtime and PyTorch."""
    if path.suffix == ".pt":
        return _torch(path)
    if engine == "openvino" or engine == "auto" and there("openvino"):
        return _openvino(path, width, height, threads)
    return _onnxruntime(path, threads)


def there(module):
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _torch(path):
    import torch

    from . import networks

    network, _ = networks.load(path)

    def run(images):
        with torch.inference_mode():
            return network(
                torch.from_numpy(planes(images)).contiguous(memory_format=torch.channels_last)
            ).numpy()

    run.engine = "torch"
    return run


def _openvino(path, width, height, threads):
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({"images": [1, 3, height, width]})
    # bf16, its own choice on some processors, is slower and less exact.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(images):
        return np.concatenate(
            [request.infer({"images": planes(image[None])})["density"].copy() for image in images]
        )

    run.engine = "openvino"
    return run


def _onnxruntime(path, threads):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def run(images):
        return session.run(["density"], {"images": planes(images)})[0]

    run.engine = "onnxruntime"
    return run
